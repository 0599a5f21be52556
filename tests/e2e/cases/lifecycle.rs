//! A cluster's life: stopped, killed and started again with its pods running on, two side by side, removed without a trace.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Run, Running, Table};
use crate::harness::{Cluster, Namespace, eventually, run, tiphys};

pub const CASES: Table = &[
    ("killed-and-started-again-nothing-is-lost", Run::Own(killed)),
    ("stopped-and-started-again-pods-run-on", Run::Own(stopped)),
    ("reset-leaves-no-trace", Run::Own(reset)),
    ("boxes-run-apart", Run::Own(apart)),
    ("server-and-agent-make-a-cluster", Run::Own(server_and_agent)),
    ("an-existing-runtime-is-used", Run::Own(existing_runtime)),
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

/// The bridge of the cluster that is reset.
const BRIDGE: &str = "tphtest3";

/// What a cluster could leave behind: interfaces, rules, mounts, network namespaces.
fn traces() -> Result<BTreeMap<&'static str, Vec<String>>> {
    let lines = |command: &mut Command| -> Result<Vec<String>> {
        let mut lines: Vec<String> = run(command)?.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    let rules = |table: &str| lines(Command::new("iptables").args(["-t", table, "-S"]));
    // Not those of other slots whose numbers begin alike.
    let own = |line: &String| {
        line.match_indices(BRIDGE)
            .any(|(at, name)| !line[at + name.len()..].starts_with(|next: char| next.is_ascii_digit()))
    };
    let test_slot = |lines: Vec<String>| lines.into_iter().filter(own).collect::<Vec<_>>();
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

/// A master and a node as two processes with a directory each.
fn server_and_agent() -> Result<()> {
    let (server, node) = (Cluster::new("server", 5)?, Cluster::new("agent", 6)?);
    let _server = Running(server.server_command().spawn()?);
    let kubeconfigs = server.data_dir().join("kubeconfig");
    let pki = |file: &str| server.data_dir().join("pki").join(file);
    eventually("the API answers", || server.kubectl(&["get", "--raw", "/readyz"]))?;
    let mut agent = tiphys();
    agent.arg("agent").arg("--data-dir").arg(node.data_dir());
    agent.arg("--kubeconfig").arg(kubeconfigs.join("kubelet.kubeconfig"));
    agent
        .arg("--tls-cert-file")
        .arg(pki("kubelet.crt"))
        .arg("--tls-private-key-file")
        .arg(pki("kubelet.key"));
    agent.arg("--client-ca-file").arg(pki("ca.crt"));
    agent.args(["--kubelet-port", "16255", "--bridge", "tphtest5", "--stop-pods"]).args(server.ranges());
    let mut agent = Running(agent.spawn()?);
    let ns = server.namespace("apart")?;
    ns.hello(1)?;
    ns.kubectl(&["run", "client", "--image=tiphys.local/hello:1"])?;
    ns.wait("condition=Ready", &["pod/client"])?;
    let answer = eventually("proxy and DNS work from elsewhere", || {
        ns.kubectl(&["exec", "client", "--", "get", "http://hello/"])
    })?;
    ensure!(answer.starts_with("Hello from pod hello-"), "{answer}");
    let pid = i32::try_from(agent.0.id())?;
    let pid = rustix::process::Pid::from_raw(pid).context("no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    ensure!(agent.0.wait()?.success(), "the agent did not end in order");
    node.remove().map(drop)
}

/// A containerd that somebody else runs, with its own configuration.
fn existing_runtime() -> Result<()> {
    let cluster = Cluster::new("existing", 7)?;
    let dir = cluster.scratch("theirs");
    std::fs::create_dir_all(&dir)?;
    let (shown, conf) = (dir.display(), cluster.data_dir().join("cni/conf").display().to_string());
    let plugins = ["/usr/lib/cni", "/opt/cni/bin"].into_iter().find(|d| std::path::Path::new(d).exists());
    let config = format!(
        "version = 2\nroot = '{shown}/root'\nstate = '{shown}/state'\n[grpc]\naddress = '{shown}/c.sock'\n\
         [plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'tiphys.local/pause:1'\n\
         restrict_oom_score_adj = true\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{}'\n\
         conf_dir = '{conf}'\n",
        plugins.context("no CNI plugins")?
    );
    std::fs::write(dir.join("config.toml"), config)?;
    let log = std::fs::File::create(dir.join("log"))?;
    let mut theirs = Command::new("containerd");
    theirs.arg("--config").arg(dir.join("config.toml")).stdout(log.try_clone()?).stderr(log);
    let _theirs = Running(theirs.spawn()?);
    let socket = dir.join("c.sock");
    eventually("containerd listens", || Ok(std::os::unix::net::UnixStream::connect(&socket)?))?;
    let endpoint = format!("unix://{}", socket.display());
    run(&mut cluster.up_command(&["--detach", "--runtime-endpoint", &endpoint]))?;
    let ns = cluster.namespace("existing")?;
    ns.hello(1)?;
    ensure!(!cluster.data_dir().join("containerd/root").exists(), "an own containerd was started");
    cluster.remove()?;
    let left = run(Command::new("ctr").arg("--address").arg(&socket).args([
        "--namespace",
        "k8s.io",
        "containers",
        "ls",
        "-q",
    ]))?;
    ensure!(left.trim().is_empty(), "containers are left: {left}");
    Ok(())
}
