//! Streams through API server and kubelet: logs, exec, port-forward, cp.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually, feed};

pub const CASES: Table = &[
    ("logs-of-pods", Run::Shared(logs)),
    ("exec-with-input-exit-code-and-terminal", Run::Shared(exec)),
    ("port-forward-to-pod-and-service", Run::Shared(port_forward)),
    ("attach-shows-the-main-process", Run::Shared(attach)),
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
    let mut follow = command.args(args).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("no output")?).lines();
    // Requests until one shows: nothing tells when kubectl has begun to follow.
    let shown = std::thread::scope(|scope| {
        let reader = scope.spawn(move || lines.next());
        let asked = eventually("a followed line", || {
            ns.kubectl(&["exec", "p", "--", "get", "http://127.0.0.1:8080/healthz"])?;
            ensure!(reader.is_finished());
            Ok(())
        });
        let line = asked.map(|()| reader.join());
        follow.kill()?;
        follow.wait()?;
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
    // `script` gives kubectl a terminal, so that -t is asked for and granted.
    let mut command = std::process::Command::new("script");
    let kubectl = ns.kubectl_command();
    let words: Vec<String> = std::iter::once(kubectl.get_program())
        .chain(kubectl.get_args())
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let line = format!("{} exec -it p -- env", words.join(" "));
    command.args(["-qec", &line, "/dev/null"]).env("HOME", ns.cluster.scratch(""));
    let output = feed(&mut command, b"")?;
    ensure!(output.contains("TERM=xterm"), "{output}");
    let missing = ns.kubectl_fails(&["exec", "p", "--", "/no/such/program"])?;
    ensure!(missing.contains("no such file"), "{missing}");
    Ok(())
}

fn port_forward(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(1)?;
    for what in ["deployment/hello", "service/hello"] {
        let port = if what.starts_with("service") { ":80" } else { ":8080" };
        let mut command = ns.kubectl_command();
        let mut forward = command.args(["port-forward", what, port]).stdout(Stdio::piped()).spawn()?;
        let answer = ask(&mut BufReader::new(forward.stdout.take().context("no output")?));
        forward.kill()?;
        forward.wait()?;
        ensure!(answer?.contains("Hello from pod hello-"));
    }
    Ok(())
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

fn cp(ns: &Namespace<'_>) -> Result<()> {
    client(ns)?;
    let dir = ns.cluster.scratch("cp");
    std::fs::create_dir_all(&dir)?;
    let (sent, back) = (dir.join("sent"), dir.join("back"));
    let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&sent, &content)?;
    ns.kubectl(&["cp", &sent.display().to_string(), "p:/tmp/file"])?;
    ns.kubectl(&["cp", "p:/tmp/file", &back.display().to_string()])?;
    ensure!(std::fs::read(&back)? == content, "the file changed on its way");
    Ok(())
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
