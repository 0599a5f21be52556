//! A cluster's life: stopped, killed and started again with its pods running on, two side by side, removed without a trace.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Cluster, Namespace, eventually, run, tiphys};

pub const CASES: Table = &[
    ("killed-and-started-again-nothing-is-lost", Run::Own(killed)),
    ("stopped-and-started-again-pods-run-on", Run::Own(stopped)),
    ("reset-leaves-no-trace", Run::Own(reset)),
    ("boxes-run-apart", Run::Own(apart)),
    ("reset-on-a-clean-machine-does-nothing", Run::Own(reset_nothing)),
];

/// Identity and restarts of every container in a namespace.
fn containers(ns: &Namespace<'_>) -> Result<BTreeMap<String, String>> {
    let pods = ns.get(&["pods"])?;
    let pods = pods["items"].as_array().context("no pods")?.clone();
    let mut containers = BTreeMap::new();
    for pod in &pods {
        let status = &pod["status"]["containerStatuses"][0];
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        containers.insert(name, format!("{} {}", status["containerID"], status["restartCount"]));
    }
    Ok(containers)
}

fn killed() -> Result<()> {
    let cluster = Cluster::start("killed", 1)?;
    let ns = cluster.namespace("killed")?;
    ns.hello(2)?;
    let before = containers(&ns)?;
    for round in 0..3 {
        // The write is acknowledged, so it must be there after the kill, however soon that comes.
        let name = format!("acknowledged-{round}");
        ns.kubectl(&["create", "configmap", &name])?;
        cluster.kill()?;
        cluster.up()?;
        ns.kubectl(&["get", "configmap", &name])?;
    }
    ns.rolled_out("deployment/hello")?;
    ensure!(containers(&ns)? == before, "containers were restarted: {before:?} {:?}", containers(&ns)?);
    // What is asked for after the restart is done, too.
    ns.kubectl(&["scale", "deployment/hello", "--replicas=3"])?;
    ns.rolled_out("deployment/hello").map(drop)
}

fn stopped() -> Result<()> {
    let cluster = Cluster::start("stopped", 2)?;
    let ns = cluster.namespace("stopped")?;
    ns.hello(1)?;
    let before = containers(&ns)?;
    cluster.stop()?;
    ensure!(cluster.kubectl(&["get", "nodes"]).is_err(), "the API still answers");
    ensure!(!processes("tiphys hello")?.is_empty(), "the pod ended with its cluster");
    cluster.up()?;
    ns.rolled_out("deployment/hello")?;
    ensure!(containers(&ns)? == before);
    Ok(())
}

/// What a cluster could leave behind: interfaces, rules, mounts, network namespaces.
fn traces() -> Result<BTreeMap<&'static str, Vec<String>>> {
    let lines = |command: &mut Command| -> Result<Vec<String>> {
        let mut lines: Vec<String> = run(command)?.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    let rules = |table: &str| lines(Command::new("iptables").args(["-t", table, "-S"]));
    let test_slot =
        |lines: Vec<String>| lines.into_iter().filter(|l| l.contains("tphtest3")).collect::<Vec<_>>();
    Ok(BTreeMap::from([
        ("links", test_slot(lines(Command::new("ip").args(["-o", "link"]))?)),
        ("filter rules", test_slot(rules("filter")?)),
        ("nat rules", test_slot(rules("nat")?)),
        (
            "mounts",
            std::fs::read_to_string("/proc/self/mounts")?
                .lines()
                .filter(|l| l.contains("tiphys-reset-"))
                .map(str::to_owned)
                .collect(),
        ),
        ("processes", processes("tiphys-reset-")?),
    ]))
}

/// Processes with a word in their command line; pgrep ends with 1 when there are none.
fn processes(word: &str) -> Result<Vec<String>> {
    let output = Command::new("pgrep").args(["-fa", word]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Another program's packet rules, as Docker makes them: FORWARD drops what none of its own rules accepts.
struct Foreign;

impl Foreign {
    fn install() -> Result<Self> {
        run(Command::new("iptables").args(["-w", "-N", "TEST-FOREIGN"]))?;
        run(Command::new("iptables").args([
            "-w",
            "-A",
            "TEST-FOREIGN",
            "-s",
            "198.51.100.0/24",
            "-j",
            "ACCEPT",
        ]))?;
        run(Command::new("iptables").args(["-w", "-A", "FORWARD", "-j", "TEST-FOREIGN"]))?;
        run(Command::new("iptables").args(["-w", "-P", "FORWARD", "DROP"]))?;
        Ok(Self)
    }

    fn untouched() -> Result<()> {
        let rules = run(Command::new("iptables").args(["-w", "-S"]))?;
        for rule in
            ["-P FORWARD DROP", "-A FORWARD -j TEST-FOREIGN", "-A TEST-FOREIGN -s 198.51.100.0/24 -j ACCEPT"]
        {
            ensure!(rules.lines().any(|line| line == rule), "{rule} is gone:\n{rules}");
        }
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        for args in ["-P FORWARD ACCEPT", "-D FORWARD -j TEST-FOREIGN", "-F TEST-FOREIGN", "-X TEST-FOREIGN"]
        {
            let _ = Command::new("iptables").arg("-w").args(args.split(' ')).status();
        }
    }
}

fn reset() -> Result<()> {
    let _foreign = Foreign::install()?;
    let cluster = Cluster::start("reset", 3)?;
    let ns = cluster.namespace("reset")?;
    ns.hello(2)?;
    ensure!(!traces()?["nat rules"].is_empty());
    let pods = ns.get(&["pods"])?;
    let (one, two) = (&pods["items"][0], &pods["items"][1]);
    let (from, to) = (one["metadata"]["name"].as_str(), two["status"]["podIP"].as_str());
    let (from, to) = (from.context("no pod")?, to.context("no address")?);
    // Pod to pod on one bridge, and through the Service: both are forwarded despite the policy.
    ns.kubectl(&["exec", from, "--", "get", &format!("http://{to}:8080/")])?;
    eventually("the Service answers pods", || ns.kubectl(&["exec", from, "--", "get", "http://hello/"]))?;
    let asked = run(tiphys().arg("reset").arg("--data-dir").arg(cluster.data_dir()))?;
    ensure!(asked.contains("Nothing was changed"), "{asked}");
    ns.kubectl(&["get", "pods"])?;
    cluster.remove()?;
    for (what, left) in traces()? {
        ensure!(left.is_empty(), "{what}: {left:?}");
    }
    ensure!(!cluster.data_dir().exists() && !cluster.kubeconfig().exists());
    Foreign::untouched()
}

/// A process that is ended with its case.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Scheduler and controller manager as processes of their own, each with its own identity over HTTPS.
fn apart() -> Result<()> {
    let cluster = Cluster::new("apart", 4)?;
    run(&mut cluster.up_command(&["--detach", "--disable", "scheduler,controller-manager"]))?;
    let ns = cluster.namespace("apart");
    let part = |name: &str| -> Result<Running> {
        let kubeconfig = cluster.data_dir().join(format!("kubeconfig/{name}.kubeconfig"));
        Ok(Running(tiphys().arg(name).arg("--kubeconfig").arg(kubeconfig).spawn()?))
    };
    let ns = ns?;
    ns.apply(&crate::harness::hello_manifest(1))?;
    let pods = || ns.kubectl(&["get", "pods", "-o", "name"]);
    ensure!(pods()?.is_empty(), "pods were made without a controller manager");
    let _controllers = part("controller-manager")?;
    eventually("a pod is made", || {
        ensure!(pods()?.lines().count() == 1);
        Ok(())
    })?;
    let pending = ns.get(&["pods"])?;
    ensure!(pending["items"][0]["spec"]["nodeName"].is_null(), "a pod was bound without a scheduler");
    let _scheduler = part("scheduler")?;
    ns.rolled_out("deployment/hello").map(drop)
}

fn reset_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let said = run(tiphys().args(["reset", "--yes", "--data-dir"]).arg(dir.path().join("none")))?;
    ensure!(said.contains("Nothing to remove"), "{said}");
    let foreign = tiphys().args(["reset", "--yes", "--data-dir"]).arg(dir.path()).output()?;
    ensure!(!foreign.status.success() && dir.path().exists(), "a directory that is not ours was removed");
    Ok(())
}
