//! `cargo xtask test`: all tests (fuzzing, unit, end to end), and closing lines that tell over all of them what failed
//! and why, and how many passed: whoever sees only the end of the output sees what matters.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// What the test binaries counted, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// What was printed of a test that failed, at most: the first lines say why.
const LINES_OF_A_FAILURE: usize = 3;

/// The tests that failed, as the test binaries tell of them after `failures:`.
#[derive(Debug, Default)]
struct Failures {
    told: Vec<String>,
    /// The one whose first line is still to come.
    name: String,
    /// How many more lines are taken of it.
    left: usize,
}

impl Failures {
    /// Takes in a line of the output: `---- name stdout ----` and `---- name ----` begin a failure.
    fn take(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            self.name = format!("failed: {}", name.strip_suffix(" stdout").unwrap_or(name));
            self.left = LINES_OF_A_FAILURE;
        } else if line == "failures:" {
            self.left = 0;
        } else if self.left > 0 && !line.is_empty() {
            self.left -= 1;
            // A case with several names fails under each for the same reason, which is told once.
            let line = format!("    {line}");
            if !self.told.contains(&line) {
                self.told.extend((!self.name.is_empty()).then(|| std::mem::take(&mut self.name)));
                self.told.push(line);
            }
        }
    }
}

/// Runs the tests; fails if one failed or none ran.
pub fn run() -> Result<()> {
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut failures = Failures::default();
    // Before the cases that keep the machine busy, and reported with them.
    let fuzzed = crate::fuzz::run(&[]);
    match &fuzzed {
        Ok(targets) => counts.passed += targets,
        Err(error) => {
            counts.failed += 1;
            println!("{error:#}");
        }
    }
    println!("fuzzing took {} s", start.elapsed().as_secs());
    // All at once: which packages are chosen decides the features of the crates that they share, and so what is built
    // anew.
    let tested = cargo(&["test", "--workspace", "--no-fail-fast"], &mut counts, &mut failures)?;
    failures.told.iter().for_each(|line| println!("{line}"));
    println!("all tests took {} s", start.elapsed().as_secs());
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if !tested || counts.failed > 0 || counts.passed == 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// Runs cargo, shows its output as it comes, and adds up its result lines. Says whether it succeeded.
fn cargo(args: &[&str], counts: &mut Counts, failures: &mut Failures) -> Result<bool> {
    let mut child =
        Command::new("cargo").args(args).stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(found) = parse(&line) {
            counts.passed += found.passed;
            counts.failed += found.failed;
            counts.skipped += found.skipped;
        }
        failures.take(&line);
        println!("{line}");
    }
    Ok(child.wait()?.success())
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn parse(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = numbers.split("; ").find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(parse(line), Some(Counts { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(parse("running 3 tests"), None);
    }

    #[test]
    fn failures_are_told_again_with_their_first_lines() {
        let output = "failures:\n\n---- [sig-x] y ----\n1\n2\n3\n4\n\n---- z ----\n1\n2\n3\n4\n\n---- a::b stdout ----\n\nthread panicked\n\n\
            failures:\n    a::b\n\ntest result: FAILED. 0 passed; 2 failed";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.take(line));
        let told = ["failed: [sig-x] y", "    1", "    2", "    3", "failed: a::b", "    thread panicked"];
        assert_eq!(failures.told, told);
    }
}
