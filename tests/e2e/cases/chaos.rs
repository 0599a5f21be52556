//! Tiphys killed at random while pods are replaced, and containerd killed under it: what runs is what was asked for, and
//! nothing of what ran before is left. `TIPHYS_E2E_KILLS` and `TIPHYS_E2E_RUNTIME_KILLS` set how often.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Cluster, Namespace, count, eventually, run};

pub const CASES: Table = &[("killed-at-random-nothing-runs-twice-and-nothing-is-left", Run::Own(chaos))];

const SLOT: u16 = 31;
const REPLICAS: u32 = 3;

fn chaos() -> Result<()> {
    let (kills, runtime_kills) = (count("TIPHYS_E2E_KILLS", 3), count("TIPHYS_E2E_RUNTIME_KILLS", 1));
    let cluster = Cluster::start("chaos", SLOT)?;
    let before = left(&cluster, &BTreeSet::new())?;
    let ns = cluster.namespace("chaos")?;
    ns.hello(REPLICAS)?;
    let mut seen = Seen::default();
    let mut random = Random(u64::from(kills) + 1);
    for round in 0..kills {
        replace(&ns, &format!("kill-{round}"))?;
        pause(random.below(2000));
        cluster.kill()?;
        cluster.up()?;
        seen.look(&ns)?;
    }
    for round in 0..runtime_kills {
        replace(&ns, &format!("runtime-{round}"))?;
        pause(random.below(2000));
        kill_runtime(&cluster)?;
        ns.rolled_out("deployment/hello")?;
        seen.look(&ns)?;
    }
    ns.rolled_out("deployment/hello")?;
    eventually("only the newest pods are there", || {
        let pods = ns.get(&["pods"])?;
        ensure!(pods["items"].as_array().map(Vec::len) == Some(REPLICAS as usize), "{pods}");
        let running = servers(&cluster)?;
        ensure!(running == REPLICAS as usize, "{running} servers run");
        Ok(())
    })?;
    seen.look(&ns)?;
    seen.judge().map_err(|why| anyhow::anyhow!("{why}\n{}", events(&ns).unwrap_or_default()))?;
    let uids: BTreeSet<String> = seen.containers.keys().cloned().collect();
    // Those of pods that are gone follow them; on a slow disk that takes a while.
    eventually("control groups are where they are looked for", || {
        let found = cgroups(&uids);
        ensure!(found.len() == REPLICAS as usize, "{found:?}");
        Ok(())
    })?;
    ns.kubectl(&["delete", "namespace", &ns.name])?;
    eventually("nothing is left", || {
        let after = left(&cluster, &uids)?;
        ensure!(after == before, "left: {}", difference(&before, &after));
        Ok(())
    })
}

/// What was told of the pods beside the usual, and what the runtime complained about: why one was started again.
fn events(ns: &Namespace<'_>) -> Result<String> {
    let events = ns.kubectl(&["get", "events", "--sort-by=.lastTimestamp"])?;
    let usual = ["Scheduled", "Pulled", "Created", "Started", "Successful", "Scaling"];
    let unusual = events.lines().filter(|line| !usual.iter().any(|usual| line.contains(usual)));
    let log = std::fs::read_to_string(ns.cluster.data_dir().join("log/containerd.log")).unwrap_or_default();
    let complaints = log.lines().filter(|line| line.contains("level=error"));
    Ok(unusual.chain(complaints).collect::<Vec<_>>().join("\n"))
}

/// Begins a rolling update.
fn replace(ns: &Namespace<'_>, value: &str) -> Result<()> {
    ns.kubectl(&["set", "env", "deployment/hello", &format!("ROUND={value}")]).map(drop)
}

/// The containers of each pod that were ever told of, and restarts.
#[derive(Default)]
struct Seen {
    containers: BTreeMap<String, BTreeMap<String, String>>,
    restarts: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self, ns: &Namespace<'_>) -> Result<()> {
        let pods = ns.get(&["pods"])?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let status = &pod["status"]["containerStatuses"][0];
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if let Some(id) = status["containerID"].as_str() {
                let seen = format!("{id}: {status}");
                self.containers.entry(uid.clone()).or_default().entry(id.to_owned()).or_insert(seen);
            }
            if status["restartCount"].as_i64().is_some_and(|count| count > 0) {
                self.restarts.insert(format!("{uid}: {status}"));
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<()> {
        let twice: Vec<_> = self.containers.iter().filter(|(_, ids)| ids.len() > 1).collect();
        ensure!(twice.is_empty(), "started twice: {twice:?}");
        ensure!(self.restarts.is_empty(), "restarted without need: {:?}", self.restarts);
        Ok(())
    }
}

fn kill_runtime(cluster: &Cluster) -> Result<()> {
    let config = cluster.data_dir().join("containerd/config.toml");
    let pids = run(Command::new("pgrep").args(["-f", &format!("containerd --config {}", config.display())]))?;
    let pid = pids.lines().next().context("no containerd")?.trim().parse()?;
    let pid = rustix::process::Pid::from_raw(pid).context("no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(())
}

fn ctr(cluster: &Cluster, what: &[&str]) -> Result<Vec<String>> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(cluster.data_dir().join("containerd/containerd.sock"));
    let text = run(ctr.args(["--namespace", "k8s.io"]).args(what))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// How many of the Deployment's servers run, by what the runtime says.
fn servers(cluster: &Cluster) -> Result<usize> {
    let tasks = ctr(cluster, &["tasks", "ls"])?;
    let pids =
        tasks.iter().filter(|line| line.contains("RUNNING")).filter_map(|l| l.split_whitespace().nth(1));
    let is_server = |pid: &&str| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/tiphys\0hello"))
    };
    Ok(pids.filter(is_server).count())
}

type Left = BTreeMap<&'static str, BTreeSet<String>>;

/// All that pods could leave behind; these are their uids.
fn left(cluster: &Cluster, uids: &BTreeSet<String>) -> Result<Left> {
    let data = cluster.data_dir();
    let bridge = format!("tphtest{SLOT}");
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let own = |line: &&str| line.contains(&*data.to_string_lossy());
    let links = run(Command::new("ip").args(["-o", "link", "show", "master", &bridge])).unwrap_or_default();
    let rules = run(Command::new("iptables-save").args(["-t", "nat"]))?;
    let address = format!("10.{}.0.", 100 + SLOT * 2);
    Ok(BTreeMap::from([
        ("containers", ctr(cluster, &["containers", "ls", "-q"])?.into_iter().collect()),
        (
            "mounts",
            mounts
                .lines()
                .filter(own)
                .map(|line| line.split(' ').nth(1).unwrap_or_default().into())
                .collect(),
        ),
        ("interfaces", links.lines().map(|line| line.split(' ').nth(1).unwrap_or_default().into()).collect()),
        (
            "rules for pods",
            rules.lines().filter(|l| l.contains(&address) && l.contains("DNAT")).map(str::to_owned).collect(),
        ),
        ("pod directories", names(&data.join("kubelet/pods"))),
        ("addresses", names_below(&data.join("cni"), &address)),
        ("control groups", cgroups(uids)),
    ]))
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Files whose names begin so, anywhere below a directory.
fn names_below(dir: &Path, start: &str) -> BTreeSet<String> {
    let (mut found, mut dirs) = (BTreeSet::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for name in names(&dir) {
            let path = dir.join(&name);
            if path.is_dir() {
                dirs.push(path);
            } else if name.starts_with(start) {
                found.insert(name);
            }
        }
    }
    found
}

/// Control groups of these pods, by their uids. Other clusters of this machine have theirs below the same one.
fn cgroups(uids: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                found.extend(uids.iter().filter(|uid| path.ends_with(format!("pod{uid}"))).cloned());
                dirs.push(path);
            }
        }
    }
    found
}

fn difference(before: &Left, after: &Left) -> String {
    let more = |(what, after): (&&str, &BTreeSet<String>)| {
        let new: Vec<_> =
            after.iter().filter(|item| !before.get(what).is_some_and(|b| b.contains(*item))).collect();
        format!("{what}: {} ({new:?}); ", new.len())
    };
    after.iter().map(more).collect()
}

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % end)
    }
}

#[allow(clippy::disallowed_methods, reason = "the moment of a kill is chosen at random, not by an event")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
