//! Keeps the time of the cases: which took longest, and which will never end.
//!
//! A case that hangs would keep everything waiting until whoever called gives up, and nobody would know which it was.
//! So a run ends itself once a case takes longer than any can, and tells the case and what it was waiting for.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

/// Longer than a case takes on the slowest machine: the longest takes a minute or two on an idle one.
const LONGEST: Duration = Duration::from_secs(20 * 60);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(10);
/// How many cases are told of at the end.
const TOLD: usize = 8;

static CASES: Mutex<Cases> = Mutex::new(Cases { under_way: BTreeMap::new(), done: Vec::new() });

#[derive(Debug)]
struct Cases {
    under_way: BTreeMap<&'static str, Instant>,
    done: Vec<(Duration, &'static str)>,
}

/// Runs a case under the clock.
pub fn timed(name: &'static str, case: impl FnOnce() -> Result<()>) -> Result<()> {
    CASES.lock().under_way.insert(name, Instant::now());
    let _under_way = UnderWay(name);
    case()
}

/// A case until it has ended, with a panic too.
struct UnderWay(&'static str);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut cases = CASES.lock();
        let took = cases.under_way.remove(self.0).map(|start| start.elapsed());
        cases.done.push((took.unwrap_or_default(), self.0));
    }
}

/// Ends the process if a case hangs, until the answer is dropped.
pub fn watch() -> Sender<()> {
    let (running, ended) = channel();
    std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
            if let Some(name) = hung() {
                give_up(name);
            }
        }
    });
    running
}

fn hung() -> Option<&'static str> {
    let cases = CASES.lock();
    cases.under_way.iter().find(|(_, start)| start.elapsed() > LONGEST).map(|(name, _)| *name)
}

/// The closing lines, in the form that `cargo xtask test` reads.
fn give_up(name: &str) -> ! {
    let processes =
        Command::new("ps").args(["-eo", "pid,ppid,stat,etimes,wchan:24,args", "--forest"]).output();
    let processes = processes.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    println!("\nfailures:\n\n---- {name} ----\nhas not ended after {} s", LONGEST.as_secs());
    println!("\nfailures:\n    {name}\n\nthe processes:\n{}", processes.unwrap_or_default());
    println!("the longest cases so far:\n{}", longest());
    std::process::exit(101)
}

/// The cases that took longest, a line each.
pub fn longest() -> String {
    let mut done = CASES.lock().done.clone();
    done.sort_unstable_by(|one, other| other.cmp(one));
    let lines = done.iter().take(TOLD).map(|(took, name)| format!("{:6} s  {name}", took.as_secs()));
    lines.collect::<Vec<_>>().join("\n")
}
