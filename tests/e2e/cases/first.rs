//! The README's first command, from a machine that never saw it to one that has forgotten it: `make run`, Ctrl-C, what
//! to type next, a second start, and `tiphys reset`. All flags have their defaults, so it has a machine of its own.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Running, binary, kubectl, repository, run};
use crate::machine::Machine;

pub const CASES: Table = &[("make-run-shows-a-first-answer", Run::Own(make_run))];

/// `make run` in a process group of its own, as a terminal has it, and what it prints.
struct Make {
    process: Running,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Make {
    /// The binary is not built anew: cargo's place is taken by what does nothing.
    fn run(machine: &Machine, home: &Path) -> Result<Self> {
        let mut make = machine.command("make");
        make.arg("--no-print-directory").arg("-C").arg(repository()).args(["run", "CARGO=true"]);
        make.arg(format!("BIN={}", binary().display()));
        // A make above this one has its own ideas of jobs and flags.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env("HOME", home);
        let mut process = Running::bounded(make.stdout(Stdio::piped()).process_group(0))?;
        let lines = BufReader::new(process.0.stdout.take().context("no output")?).lines();
        Ok(Self { process, lines })
    }

    /// What it prints up to a line with these words.
    fn until(&mut self, words: &str) -> Result<String> {
        let mut text = String::new();
        for line in self.lines.by_ref() {
            let line = line?;
            text.push_str(&line);
            text.push('\n');
            if line.contains(words) {
                return Ok(text);
            }
        }
        anyhow::bail!("it ended without {words:?}:\n{text}")
    }

    /// Ctrl-C; returns when it has ended.
    fn interrupt(mut self) -> Result<()> {
        let group = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process_group(group, rustix::process::Signal::INT)?;
        for line in self.lines {
            line?;
        }
        self.process.0.wait()?;
        Ok(())
    }
}

fn make_run() -> Result<()> {
    let machine = Machine::start()?;
    let home = machine.dir().join("home");
    std::fs::create_dir(&home)?;
    let mut make = Make::run(&machine, &home)?;
    let said = make.until("Ctrl-C stops the cluster")?;
    for words in
        ["host checked", "Ready", "service hello answers at http://", "Hello from pod hello-", "Type next"]
    {
        ensure!(said.contains(words), "{words:?} is missing in\n{said}");
    }
    let at_home = |program: &Path, args: &[&str]| -> Result<String> {
        let mut command = machine.command(program);
        run(command.args(args).env("HOME", &home).env_remove("KUBECONFIG"))
    };
    let pods = at_home(&kubectl(), &["get", "pods", "-A"])?;
    ensure!(pods.matches("Running").count() == 3, "{pods}");
    let containers = ["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}"];
    let before = at_home(&kubectl(), &containers)?;
    make.interrupt()?;
    ensure!(at_home(&kubectl(), &["get", "pods"]).is_err(), "the API still answers");
    ensure!(servers(&machine)? == 3, "{} of 3 servers run on", servers(&machine)?);
    at_home(&binary(), &["up", "--detach"])?;
    ensure!(at_home(&kubectl(), &containers)? == before, "the second start has changed the pods");
    ensure!(servers(&machine)? == 3, "{} servers run", servers(&machine)?);
    at_home(&binary(), &["reset", "--yes"])?;
    ensure!(servers(&machine)? == 0, "servers run on after a reset");
    for path in ["lib/tiphys", "etc/tiphys"] {
        ensure!(!machine.dir().join(path).exists(), "/{path} is left");
    }
    let config = std::fs::read_to_string(home.join(".kube/config"))?;
    ensure!(!config.contains("server:"), "the context is left:\n{config}");
    Ok(())
}

/// How many of the example's servers run in the machine.
fn servers(machine: &Machine) -> Result<usize> {
    let mut list = machine.command("pgrep");
    // pgrep ends with 1 when it finds none.
    let output = list.args(["-fc", "^/tiphys hello"]).stdout(Stdio::piped()).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("pgrep counted nothing")
}
