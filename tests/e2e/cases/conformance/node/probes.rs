//! What probes decide.

use anyhow::{Result, ensure};

use super::{Run, Table, pod, status};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    (
        &[
            "[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe [NodeConformance]",
            "[sig-node] Probing container should *not* be restarted with a exec \"cat /tmp/health\" liveness probe [NodeConformance]",
            "[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe [NodeConformance]",
            "[sig-node] Probing container should be restarted with a /healthz http liveness probe [NodeConformance]",
            "[sig-node] Probing container should be restarted with a exec \"cat /tmp/health\" liveness probe [NodeConformance]",
            "[sig-node] Probing container should have monotonically increasing restart count [NodeConformance]",
        ],
        Run::Shared(liveness),
    ),
    (
        &[
            "[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart [NodeConformance]",
            "[sig-node] Probing container with readiness probe that fails should never be ready and never restart [NodeConformance]",
        ],
        Run::Shared(readiness),
    ),
];

const HTTP: &str = "httpGet: {path: /healthz, port: 8080}";
const EXEC: &str = "exec: {command: [cat, /tmp/health]}";
const TCP: &str = "tcpSocket: {port: 8080}";

fn liveness(ns: &Namespace<'_>) -> Result<()> {
    let probe = |name: &str, action: &str| {
        let start = "lifecycle: {postStart: {exec: {command: [touch, /tmp/health]}}}";
        // On a busy machine a server listens late and a command takes its time, which is not what this is about.
        let up = format!("startupProbe: {{{TCP}, periodSeconds: 1, failureThreshold: 90}}");
        let probe =
            format!("livenessProbe: {{{action}, periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 1}}");
        pod(name, "", &[&format!("name: c, {start}, {up}, {probe}")])
    };
    let broken = "httpGet: {path: /broken, port: 8080}";
    let pods = [probe("http", HTTP), probe("exec", EXEC), probe("tcp", TCP), probe("broken", broken)];
    ns.apply(&pods.concat())?;
    ns.wait("condition=Ready", &["pod/http", "pod/exec", "pod/tcp"])?;
    restarted(ns, "broken", 1)?;
    super::event(ns, "broken", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404")?;
    super::event(ns, "broken", "Killing", "Container c failed liveness probe, will be restarted")?;
    // Its count only grows, and the first ones have been probed for as long meanwhile.
    restarted(ns, "broken", 2)?;
    for name in ["http", "exec", "tcp"] {
        let pod = ns.get(&["pod", name])?;
        ensure!(status(&pod, "c")?["restartCount"] == 0, "{}", pod["status"]);
    }
    ns.kubectl(&["exec", "exec", "--", "rm", "/tmp/health"])?;
    restarted(ns, "exec", 1)
}

/// Waits for a count of restarts; on the way there it never falls.
fn restarted(ns: &Namespace<'_>, name: &str, wanted: i64) -> Result<()> {
    let mut last = 0;
    eventually("it is started again", || {
        let pod = ns.get(&["pod", name])?;
        let count = status(&pod, "c")?["restartCount"].as_i64().unwrap_or(0);
        assert!(count >= last, "{count} restarts after {last}");
        last = count;
        ensure!(count >= wanted, "{}", pod["status"]);
        Ok(())
    })
}

fn readiness(ns: &Namespace<'_>) -> Result<()> {
    let probe = |name: &str, action: &str, delay: u32| {
        let probe =
            format!("{{{action}, initialDelaySeconds: {delay}, periodSeconds: 1, failureThreshold: 1}}");
        pod(name, "", &[&format!("name: c, readinessProbe: {probe}")])
    };
    ns.apply(&[probe("late", HTTP, 4), probe("never", "exec: {command: ['false']}", 0)].concat())?;
    ns.wait("condition=Ready", &["pod/late"])?;
    let late = ns.get(&["pod", "late"])?;
    let conditions = late["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").cloned().unwrap_or_default();
    let seen = status(&late, "c")?;
    let second = |time: &serde_json::Value| -> Result<jiff::Timestamp> {
        Ok(time.as_str().unwrap_or_default().parse()?)
    };
    let (started, became) =
        (second(&seen["state"]["running"]["startedAt"])?, second(&ready["lastTransitionTime"])?);
    // The API keeps whole seconds: one may be lost.
    ensure!(became.as_second() - started.as_second() >= 3, "started at {started}, ready at {became}");
    super::event(ns, "never", "Unhealthy", "Readiness probe failed:")?;
    let never = ns.get(&["pod", "never"])?;
    ensure!(
        never["status"]["phase"] == "Running" && status(&never, "c")?["ready"] == false,
        "{}",
        never["status"]
    );
    for pod in [&late, &never] {
        ensure!(status(pod, "c")?["restartCount"] == 0, "{}", pod["status"]);
    }
    Ok(())
}
