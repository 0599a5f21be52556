//! Streams through API server and kubelet: logs, exec, port-forward, cp.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, Running, eventually, feed, run};

pub const CASES: Table = &[
    ("logs-of-pods", Run::Shared(logs)),
    ("exec-with-input-exit-code-and-terminal", Run::Shared(exec)),
    ("port-forward-to-pod-and-service", Run::Shared(port_forward)),
    ("attach-shows-the-main-process", Run::Shared(attach)),
    ("attach-and-run-speak-with-the-main-process", Run::Shared(speak)),
    ("older-kubectls-stream-too", Run::SharedIf(no_older, older)),
    ("cp-both-ways", Run::Shared(cp)),
    ("proxy-to-pod-and-service", Run::Shared(proxy)),
];

fn client(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["run", "p", "--image=tiphys.local/hello:1", "--port=8080"])?;
    ns.wait("condition=Ready", &["pod/p"]).map(drop)
}

fn logs(ns: &Namespace<'_>) -> Result<()> {
    client(ns)?;
    ensure!(
        eventually("the first line", || {
            let log = ns.kubectl(&["logs", "p"])?;
            ensure!(!log.is_empty());
            Ok(log)
        })?
        .contains("p listens on port 8080")
    );
    ensure!(ns.kubectl(&["logs", "p", "--tail=1", "--timestamps"])?.starts_with("20"));
    ensure!(first_line(ns, &["logs", "-f", "p", "--tail=0"])? == "GET /healthz");
    let missing = ns.kubectl_fails(&["logs", "p", "-c", "other"])?;
    ensure!(missing.contains("container other is not valid for pod p"), "{missing}");
    Ok(())
}

/// The first line that a following kubectl prints while the pod `p` is asked for its health.
fn first_line(ns: &Namespace<'_>, args: &[&str]) -> Result<String> {
    let mut command = ns.kubectl_command();
    let mut follow = Running::bounded(command.args(args).stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(follow.0.stdout.take().context("no output")?).lines();
    // Requests until one shows: nothing tells when kubectl has begun to follow.
    let shown = std::thread::scope(|scope| {
        let reader = scope.spawn(move || lines.next());
        let asked = eventually("a followed line", || {
            ns.kubectl(&["exec", "p", "--", "get", "http://127.0.0.1:8080/healthz"])?;
            ensure!(reader.is_finished());
            Ok(())
        });
        let line = asked.map(|()| reader.join());
        drop(follow);
        line
    })?;
    Ok(shown.map_err(|_| anyhow::anyhow!("the reader panicked"))?.context("the output ended")??)
}

fn attach(ns: &Namespace<'_>) -> Result<()> {
    client(ns)?;
    let line = first_line(ns, &["attach", "p"])?;
    ensure!(line == "GET /healthz", "{line}");
    Ok(())
}

fn exec(ns: &Namespace<'_>) -> Result<()> {
    client(ns)?;
    let mut cat = ns.kubectl_command();
    let megabyte = vec![b'x'; 1 << 20];
    let echoed = feed(cat.args(["exec", "-i", "p", "--", "cat"]), &megabyte)?;
    ensure!(echoed.len() == megabyte.len(), "{} bytes came back", echoed.len());
    let status = ns.kubectl_command().args(["exec", "p", "--", "/bin/false"]).status()?;
    ensure!(status.code() == Some(1), "{status}");
    let output = feed(&mut scripted(ns, "exec -it p -- env"), b"")?;
    ensure!(output.contains("TERM=xterm"), "{output}");
    let missing = ns.kubectl_fails(&["exec", "p", "--", "/no/such/program"])?;
    ensure!(missing.contains("no such file"), "{missing}");
    Ok(())
}

/// kubectl on a terminal, which `script` makes.
fn scripted(ns: &Namespace<'_>, args: &str) -> std::process::Command {
    let kubectl = ns.kubectl_command();
    let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("{} {args}", words.join(" ")), "/dev/null"]);
    command.env("HOME", ns.cluster.scratch(""));
    command
}

/// Standard input reaches the main process, ends when the client ends it, and with it the pod.
fn speak(ns: &Namespace<'_>) -> Result<()> {
    let cat = ["--image=tiphys.local/hello:1", "--restart=Never", "--command", "--", "cat"];
    let mut once = ns.kubectl_command();
    let said =
        feed(once.args([["run", "r", "-i", "--rm", "--quiet"].as_slice(), &cat].concat()), b"to and fro\n")?;
    ensure!(said.contains("to and fro"), "{said}");
    ns.kubectl_fails(&["get", "pod", "r"])?;
    ns.kubectl(&[["run", "t", "-it", "--attach=false"].as_slice(), &cat].concat())?;
    ns.wait("condition=Ready", &["pod/t"])?;
    let said = attached(ns, "t")?;
    ensure!(said.matches("a line").count() >= 2, "the terminal echoes, and so does cat: {said:?}");
    ns.wait("jsonpath={.status.phase}=Succeeded", &["pod/t"]).map(drop)
}

/// What a pod's terminal says to a line and to ^D, the end of input.
fn attached(ns: &Namespace<'_>, pod: &str) -> Result<String> {
    let mut command = scripted(ns, &format!("attach -it {pod}"));
    let mut running = Running::bounded(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let (mut input, mut output) =
        (running.0.stdin.take().context("no input")?, running.0.stdout.take().context("no output")?);
    input.write_all(b"a line\n")?;
    let mut said = String::new();
    // kubectl makes the terminal its own only after its first words. Until then the terminal itself takes ^D, of which the pod
    // would see a NUL. It echoes the line, too; what comes a second time comes from the pod.
    while said.matches("a line").count() < 2 {
        let mut part = [0; 256];
        let length = output.read(&mut part)?;
        ensure!(length > 0, "it ended after {said:?}");
        said.push_str(&String::from_utf8_lossy(part.get(..length).unwrap_or_default()));
    }
    input.write_all(b"\x04")?;
    output.read_to_string(&mut said)?;
    Ok(said)
}

/// The distribution's kubectl, which speaks SPDY only.
fn old_kubectl() -> std::path::PathBuf {
    crate::harness::repository().join("target/distribution-kubectl/usr/bin/kubectl")
}

fn no_older() -> Option<String> {
    (!old_kubectl().exists()).then(|| "no older kubectl; `scripts/packages test` unpacks one".to_owned())
}

fn older(ns: &Namespace<'_>) -> Result<()> {
    client(ns)?;
    let old = || {
        let mut command = std::process::Command::new(old_kubectl());
        command.arg("--kubeconfig").arg(ns.cluster.kubeconfig()).args(["--namespace", &ns.name]);
        command.env("HOME", ns.cluster.scratch("old"));
        command
    };
    let echoed = feed(old().args(["exec", "-i", "p", "--", "cat"]), b"to and fro")?;
    ensure!(echoed == "to and fro", "{echoed:?}");
    let status = old().args(["exec", "p", "--", "/bin/false"]).status()?;
    ensure!(status.code() == Some(1), "{status}");
    ensure!(forwarded(old().args(["port-forward", "pod/p", ":8080"]))?.contains("Hello from pod p"));
    Ok(())
}

fn port_forward(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(1)?;
    for what in ["deployment/hello", "service/hello"] {
        let port = if what.starts_with("service") { ":80" } else { ":8080" };
        let answer = forwarded(ns.kubectl_command().args(["port-forward", what, port]))?;
        ensure!(answer.contains("Hello from pod hello-"));
    }
    Ok(())
}

/// What the pod behind a kubectl that forwards a port answers.
fn forwarded(command: &mut std::process::Command) -> Result<String> {
    let mut running = Running::bounded(command.stdout(Stdio::piped()))?;
    let output = running.0.stdout.take();
    ask(&mut BufReader::new(output.context("no output")?))
}

/// Reads the local port that kubectl prints, and sends two requests through it.
fn ask(output: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port =
        line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context(line.clone())?;
    let mut answer = String::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", port.parse()?))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut answer)?;
    }
    Ok(answer)
}

/// Says how many bytes are copied, where it is not the few that a quick run has time for.
const CP_BYTES: &str = "TIPHYS_E2E_CP_BYTES";

fn cp(ns: &Namespace<'_>) -> Result<()> {
    client(ns)?;
    let dir = ns.cluster.scratch("cp");
    std::fs::create_dir_all(&dir)?;
    let (sent, back) = (dir.join("sent"), dir.join("back"));
    let bytes: u64 = std::env::var(CP_BYTES).map_or(Ok(12_000_000), |text| text.parse())?;
    // Each number stands once, so that no piece can be missing or change places unseen.
    let mut file = std::io::BufWriter::new(std::fs::File::create(&sent)?);
    (0..bytes / 8).try_for_each(|number| file.write_all(&number.to_le_bytes()))?;
    file.into_inner()?.sync_all()?;
    ns.kubectl(&["cp", &sent.display().to_string(), "p:/tmp/file"])?;
    ns.kubectl(&["cp", "p:/tmp/file", &back.display().to_string()])?;
    run(std::process::Command::new("cmp").args([&sent, &back])).context("the file changed on its way")?;
    Ok(std::fs::remove_dir_all(&dir)?)
}

fn proxy(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(1)?;
    let pod = ns.kubectl(&["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let base = format!("/api/v1/namespaces/{}", ns.name);
    for path in [format!("{base}/pods/{pod}:8080/proxy/"), format!("{base}/services/hello:80/proxy/")] {
        let answer = eventually(&path, || ns.kubectl(&["get", "--raw", &path]))?;
        ensure!(answer.contains(&pod), "{path}: {answer}");
    }
    Ok(())
}
