//! `cargo xtask tidy`: the house rules that a machine can check, so that no one has to remember them.
//!
//! Every Rust file opens with `//!`, has at most 600 lines, and no function over 70; relative links in Markdown lead
//! somewhere; no committed file is over 512 KiB (generated tables of facts are text and stay below it).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Checks every committed file; lists all that is wrong.
pub fn run() -> Result<()> {
    let mut wrong = String::new();
    for path in files()? {
        for complaint in check(&path)? {
            writeln!(wrong, "{}: {complaint}", path.display())?;
        }
    }
    if !wrong.is_empty() {
        bail!("house rules broken\n{wrong}");
    }
    Ok(())
}

/// Committed files and those about to be.
fn files() -> Result<Vec<PathBuf>> {
    let output =
        Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).output()?;
    let names = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(names.lines().map(PathBuf::from).filter(|path| path.is_file()).collect())
}

fn check(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::metadata(path)?.len();
    let mut complaints = Vec::new();
    if bytes > FILE_BYTES_MAX && !path.ends_with("Cargo.lock") {
        complaints.push(format!("{bytes} bytes; the limit is {FILE_BYTES_MAX}"));
    }
    match path.extension().and_then(|e| e.to_str()) {
        Some("rs") => complaints.extend(rust(&std::fs::read_to_string(path)?, path.ends_with("tests.rs"))),
        Some("md") => complaints.extend(dead_links(path, &std::fs::read_to_string(path)?)),
        _ => {}
    }
    Ok(complaints)
}

/// A `tests.rs` stands beside the file it tests and needs no introduction.
fn rust(text: &str, is_tests: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    if !is_tests && !text.starts_with("//!") {
        complaints.push("does not open with //! (purpose, contract, why this way)".to_owned());
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        complaints.push(format!("{lines} lines; the limit is {FILE_LINES_MAX}"));
    }
    complaints.extend(long_functions(text));
    complaints
}

/// A function ends at the first closing brace with the indentation of its `fn`: rustfmt guarantees that.
fn long_functions(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut open: Option<(usize, usize, &str)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if let Some((start, depth, name)) = open {
            if indent == depth && line.trim_start().starts_with('}') {
                let length = number - start + 1;
                if length > FUNCTION_LINES_MAX {
                    complaints.push(format!("fn {name}: {length} lines; the limit is {FUNCTION_LINES_MAX}"));
                }
                open = None;
            }
        } else if let Some(name) = function_name(line) {
            open = (!line.ends_with('}') && !line.ends_with(';')).then_some((number, indent, name));
        }
    }
    complaints
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
        words = words.strip_prefix(prefix).unwrap_or(words);
    }
    let name = words.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

fn dead_links(path: &Path, text: &str) -> Vec<String> {
    let here = path.parent().unwrap_or(Path::new(""));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|t| !t.contains("://") && !t.starts_with('#'))
        .filter(|t| !here.join(t.split('#').next().unwrap_or(t)).exists())
        .map(|t| format!("link to {t} leads nowhere"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_named() {
        let body = "    x();\n".repeat(70);
        let text = format!(
            "//! x\nimpl A {{\n    pub async fn long<T>() {{\n{body}    }}\n}}\nfn short() {{\n    y();\n}}\n"
        );
        assert_eq!(rust(&text, false), ["fn long: 72 lines; the limit is 70"]);
    }

    #[test]
    fn a_file_must_introduce_itself() {
        assert!(rust("use std::fs;\n", false)[0].contains("//!"));
    }

    #[test]
    fn links_must_lead_somewhere() {
        let text = "[a](Cargo.toml) [b](https://example.test) [c](gone.md#x) [d](#here)";
        assert_eq!(dead_links(Path::new("README.md"), text), ["link to gone.md#x leads nowhere"]);
    }
}
