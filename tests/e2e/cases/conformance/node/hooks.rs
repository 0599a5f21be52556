//! What is done at a container's start and before its end.

use anyhow::{Context, Result, ensure};

use super::{Run, Table, pod};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[(
    &[
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [NodeConformance]",
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [NodeConformance]",
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly [NodeConformance]",
        "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly [NodeConformance]",
        "[sig-node] PreStop should call prestop when killing a pod",
    ],
    Run::Shared(hooks),
)];

/// A server's log tells who has asked it.
fn hooks(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&pod("server", "", &["name: c"]))?;
    ns.wait("condition=Ready", &["pod/server"])?;
    let server = ns.get(&["pod", "server"])?;
    let ip = server["status"]["podIP"].as_str().context("no address")?.to_owned();
    let exec = |what: &str| format!("{{exec: {{command: [get, 'http://{ip}:8080/healthz?{what}']}}}}");
    let http = |what: &str| format!("{{httpGet: {{host: {ip}, port: 8080, path: '/healthz?{what}'}}}}");
    let with = |name: &str, start: String, stop: String| {
        let lifecycle = format!("lifecycle: {{postStart: {start}, preStop: {stop}}}");
        let container = format!("name: c, command: [sleep, '3600'], {lifecycle}");
        pod(name, "", &[&container])
            .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 20")
    };
    let pods = [
        with("exec", exec("started-exec"), exec("stopped-exec")),
        with("http", http("started-http"), http("stopped-http")),
        // No hook at all: nothing to wait for, and nothing to tell.
        pod(
            "fails",
            "",
            &["name: c, command: [sleep, '3600'], lifecycle: {postStart: {exec: {command: ['false']}}}"],
        ),
    ];
    ns.apply(&pods.concat())?;
    ns.wait("condition=Ready", &["pod/exec", "pod/http"])?;
    let asked = |what: &str| -> Result<()> {
        let log = ns.kubectl(&["logs", "server"])?;
        ensure!(log.contains(&format!("GET /healthz?{what}")), "{what} is missing in\n{log}");
        Ok(())
    };
    // What a container prints is in its log a moment later.
    eventually("the hooks at the start are in the log", || {
        asked("started-exec")?;
        asked("started-http")
    })?;
    ensure!(asked("stopped-exec").is_err() && asked("stopped-http").is_err(), "a hook came too early");
    // The hook has its time, and the container then ends with its signal, long before its grace period.
    ns.kubectl(&["delete", "pod", "exec", "http", "--wait=false"])?;
    eventually("the hooks before the end have run", || {
        asked("stopped-exec")?;
        asked("stopped-http")
    })?;
    super::event(ns, "fails", "FailedPostStartHook", "PostStartHook failed")?;
    ns.kubectl(&["delete", "pod", "--all", "--grace-period=1"]).map(drop)
}
