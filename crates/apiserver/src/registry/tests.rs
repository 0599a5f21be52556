//! Scenarios: one text file per case, of requests and the answers they get.
//!
//! A file in `testdata/` is a list of blocks, apart by blank lines. A block is a request line (`POST /api/v1/… ?query`),
//! its body if it has one, `=>`, and the answer: the HTTP code that the answer means and the body, one line each.
//! Identities, times and revisions that differ from run to run are masked; revisions are counted from the first one
//! seen. Run with `REWRITE=1` to write the answers anew, and read the diff.

mod expiry;
mod history;
mod kinds;
mod laws;
mod quotas;
mod rest;
mod together;

use std::fmt::Write as _;
use std::path::PathBuf;

use super::testing;
use rest::Session;

fn cases() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/registry/testdata");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files
}

/// The requests of a scenario: (comment and request lines, body).
fn requests(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split("\n\n").filter(|block| !block.trim().is_empty()).map(|block| {
        let asked = block.split_once("\n=>").map_or(block, |(asked, _)| asked);
        let lines: Vec<&str> = asked.lines().collect();
        let head = lines.iter().take_while(|l| l.starts_with('#')).count() + 1;
        (lines[..head.min(lines.len())].join("\n"), lines[head.min(lines.len())..].join("\n"))
    })
}

async fn play(text: &str) -> String {
    let fixture = testing::fixture().await;
    let mut session = Session::new(fixture.registry.clone());
    let mut played = String::new();
    for (head, body) in requests(text) {
        let line = head.lines().last().unwrap_or_default().to_owned();
        if line.starts_with('#') {
            write!(played, "{head}\n\n").unwrap();
            continue;
        }
        let answer = session.ask(&line, &body).await;
        let body = if body.is_empty() { body } else { format!("{}\n", body.trim_end()) };
        write!(played, "{head}\n{body}=>\n{answer}\n\n").unwrap();
    }
    played.truncate(played.trim_end().len());
    played.push('\n');
    played
}

#[tokio::test]
async fn scenarios_play_as_written() {
    let mut wrong = Vec::new();
    for path in cases() {
        let written = std::fs::read_to_string(&path).unwrap();
        let played = play(&written).await;
        if played == written {
            continue;
        }
        match std::env::var_os("REWRITE") {
            Some(_) => std::fs::write(&path, played).unwrap(),
            None => wrong.push(format!("{}:\n{}", path.display(), first_difference(&written, &played))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(written: &str, played: &str) -> String {
    let pair = written.lines().zip(played.lines()).enumerate().find(|(_, (w, p))| w != p);
    match pair {
        Some((at, (w, p))) => format!("line {}\n  written {w}\n  played  {p}", at + 1),
        None => "one is longer than the other".into(),
    }
}
