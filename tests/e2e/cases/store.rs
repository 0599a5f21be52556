//! The state store: in an etcd cluster whose members fail, moved there and back, backed up and brought back elsewhere.
//!
//! Masters alone: no pods are needed, so each case takes a few seconds.

mod etcd;
mod faults;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use etcd::Etcd;

use super::{Run, Running, Table};
use crate::harness::{Cluster, eventually, kubectl, run, tiphys};

pub const CASES: Table = &[
    ("api-servers-on-one-etcd-agree-whatever-fails", Run::If(no_etcd, agree)),
    ("the-other-master-goes-on-when-the-leading-one-is-killed", Run::If(no_etcd, lead)),
    ("a-backup-comes-back-at-another-address", Run::Own(backup)),
    ("a-backup-of-an-etcd-comes-back-in-another", Run::If(no_etcd, backup_of_etcd)),
    ("the-state-moves-to-etcd-and-back", Run::If(no_etcd, migrate)),
    ("a-signal-ends-a-start-that-waits-for-its-store", Run::Own(waits)),
];

/// An address of loopback that no other case uses, ...
const ELSEWHERE: &str = "127.0.0.9";
const FARTHER: &str = "127.0.0.10";
/// ... and the one that is told to pods, from RFC 2544's range for tests.
const ADVERTISED: &str = "198.18.0.9";

fn no_etcd() -> Option<String> {
    let found = |program: &str| {
        let status =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok()
    };
    (!found("etcd") || !found("etcdctl")).then(|| "etcd is not installed".into())
}

/// A master without controllers, whose objects change only when a case changes them.
fn serve(cluster: &Cluster, more: &[&str]) -> Result<Running> {
    cluster.serve(&[&["--disable", "scheduler,controller-manager,dns"], more].concat())
}

fn put(cluster: &Cluster, name: &str) -> Result<String> {
    cluster.kubectl(&["create", "configmap", name, "--from-literal=from=here"])
}

/// Names of the config maps, in the order in which they were last written.
fn written(cluster: &Cluster) -> Result<Vec<String>> {
    let path = "jsonpath={range .items[*]}{.metadata.resourceVersion} {.metadata.name}{'\\n'}{end}";
    let listed = cluster.kubectl(&["get", "configmaps", "-o", path])?;
    let mut found = Vec::new();
    for line in listed.lines() {
        let (version, name) = line.split_once(' ').context("no version")?;
        found.push((version.parse::<u64>()?, name.to_owned()));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// Two API servers, each with its own cache, on three members that die, come back, stand still, and lose each other.
fn agree() -> Result<()> {
    let mut etcd = Etcd::start_apart(3)?;
    let (one, two) = (Cluster::new("one", 10)?, Cluster::new("two", 11)?);
    let urls = etcd.urls();
    let flags = ["--etcd-servers", urls.as_str()];
    let _first = serve(&one, &flags)?;
    // One cluster has one authority.
    std::fs::create_dir_all(two.data_dir())?;
    run(Command::new("cp").arg("-r").arg(one.data_dir().join("pki")).arg(two.data_dir()))?;
    let _second = serve(&two, &flags)?;
    // Whoever is in the cluster finds both.
    let service = "kubernetes.io/service-name=kubernetes";
    let ports = ["get", "endpointslices", "-l", service, "-o", "jsonpath={.items[*].ports[*].port}"];
    eventually("the Service kubernetes leads to both", || {
        let told = one.kubectl(&ports)?;
        ensure!(told.split_whitespace().count() == 2, "{told}");
        Ok(())
    })?;
    let mut names = Vec::new();
    let mut write = |here: &Cluster, there: &Cluster, name: String| -> Result<()> {
        // A write that is told as lost may have been done; then it is there.
        eventually("etcd elects a leader", || {
            put(here, &name).or_else(|error| here.kubectl(&["get", "configmap", &name]).map_err(|_| error))
        })?;
        // Whoever reads after the answer finds it, at either server.
        there.kubectl(&["get", "configmap", &name])?;
        names.push(name);
        Ok(())
    };
    write(&one, &two, "a".into())?;
    write(&two, &one, "b".into())?;
    // The first is the one that both speak to.
    etcd.members[0] = None;
    write(&one, &two, "c".into())?;
    write(&two, &one, "d".into())?;
    etcd.members[0] = Some(etcd.spawn(0)?);
    write(&one, &two, "e".into())?;
    let found = [written(&one)?, written(&two)?];
    ensure!(found.iter().all(|found| *found == names), "{names:?} {found:?}");
    // The layout is Kubernetes' own, for tools that look into etcd.
    let found = run(Command::new("etcdctl").env("ETCDCTL_API", "3").args([
        "--endpoints",
        &urls,
        "get",
        "/registry/configmaps/default/a",
        "--keys-only",
    ]))?;
    ensure!(found.trim() == "/registry/configmaps/default/a", "{found}");
    faults::under_load(&mut etcd, [&one, &two])
}

/// Two masters with controllers on one etcd: one of them works, and when it is killed, the other one.
fn lead() -> Result<()> {
    let etcd = Etcd::start(1)?;
    let urls = etcd.urls();
    let flags = ["--etcd-servers", urls.as_str(), "--disable", "dns"];
    let (one, two) = (Cluster::new("leading", 20)?, Cluster::new("standing-by", 21)?);
    let first = one.serve(&flags)?;
    std::fs::create_dir_all(two.data_dir())?;
    run(Command::new("cp").arg("-r").arg(one.data_dir().join("pki")).arg(two.data_dir()))?;
    let leader = || {
        let lease = ["get", "lease", "-n", "kube-system", "kube-controller-manager"];
        two.kubectl(&[&lease[..], &["-o", "jsonpath={.spec.holderIdentity}"]].concat())
    };
    let replicas = |wanted: &str| {
        let path = "jsonpath={.status.replicas} {.status.observedGeneration} {.metadata.generation}";
        eventually("the controllers work", || {
            let told = two.kubectl(&["get", "deployment", "web", "-o", path])?;
            ensure!(told == wanted, "{told}");
            Ok(())
        })
    };
    one.kubectl(&["create", "deployment", "web", "--image=registry.k8s.io/pause", "--replicas=2"])?;
    let _second = two.serve(&flags)?;
    replicas("2 1 1")?;
    let before = leader()?;
    drop(first);
    two.kubectl(&["scale", "deployment", "web", "--replicas=5"])?;
    replicas("5 2 2")?;
    let after = leader()?;
    ensure!(before != after && !before.is_empty(), "{before:?} leads, then {after:?}");
    Ok(())
}

fn backup() -> Result<()> {
    let first = Cluster::new("first", 12)?;
    let listen = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let server = serve(&first, &["--etcd-listen", &listen])?;
    for name in ["a", "b"] {
        put(&first, name)?;
    }
    first.kubectl(&["create", "serviceaccount", "robot"])?;
    let token = first.kubectl(&["create", "token", "robot"])?;
    let file = first.scratch("backup.tar");
    let create =
        |file: &Path| run(tiphys().args(["backup", "create", "--data-dir"]).arg(first.data_dir()).arg(file));
    let said = create(&file)?;
    ensure!(said.contains("is whole") && said.contains("owns the cluster"), "{said}");
    ensure!(create(&file).is_err_and(|error| format!("{error:#}").contains("exists")), "it was overwritten");
    put(&first, "after-the-backup")?;
    let before = written(&first)?;
    ensure!(before.last().is_some_and(|name| name == "after-the-backup"), "{before:?}");
    drop(server);
    // A crashed master is backed up as well, from its directory.
    create(&first.scratch("crashed.tar"))?;
    damaged(&file)?;

    let second = Cluster::new("second", 13)?;
    let restore = |cluster: &Cluster| {
        run(tiphys().args(["backup", "restore", "--data-dir"]).arg(cluster.data_dir()).arg(&file))
    };
    let said = restore(&second)?;
    ensure!(said.contains("Start it with:  tiphys up --data-dir"), "{said}");
    ensure!(restore(&second).is_err_and(|error| format!("{error:#}").contains("give an empty --data-dir")));
    let ranges = first.ranges();
    let mut flags: Vec<&str> = ranges.iter().map(String::as_str).collect();
    flags.extend(["--bind-address", ELSEWHERE, "--node-ip", ADVERTISED]);
    let _server = serve(&second, &flags)?;
    ensure!(written(&second)? == ["a", "b"], "{:?}", written(&second)?);
    let slices = second.kubectl(&[
        "get",
        "endpointslices",
        "kubernetes",
        "-o",
        "jsonpath={.endpoints[*].addresses}",
    ])?;
    ensure!(slices.contains(ADVERTISED), "{slices}");
    // Who had a credential of the cluster has one of the restored cluster.
    let server = format!("https://{ELSEWHERE}:{}", second.https_port());
    let mut old = first.kubectl_command();
    run(old.args(["--server", &server, "get", "configmap", "a"]))?;
    let mut robot = Command::new(kubectl());
    robot.args(["--kubeconfig", "/dev/null", "--server", &server, "--token", token.trim()]);
    robot.arg("--certificate-authority").arg(first.data_dir().join("pki/ca.crt"));
    let who = run(robot.args(["auth", "whoami"]))?;
    ensure!(who.contains("system:serviceaccount:default:robot"), "{who}");
    put(&second, "c").map(drop)
}

/// The state of a master on etcd comes back in another etcd, and in a directory.
fn backup_of_etcd() -> Result<()> {
    let (from, to) = (Etcd::start(1)?, Etcd::start(1)?);
    let (from, to) = (&from.urls(), &to.urls());
    let first = Cluster::new("on-etcd", 15)?;
    let server = serve(&first, &["--etcd-servers", from])?;
    for name in ["z", "a"] {
        put(&first, name)?;
    }
    // From the master while it runs, and from etcd when it does not.
    let (online, offline) = (first.scratch("online.tar"), first.scratch("offline.tar"));
    let create = |more: &[&str], file: &Path| {
        let mut command = tiphys();
        run(command.args(["backup", "create", "--data-dir"]).arg(first.data_dir()).args(more).arg(file))
    };
    create(&[], &online)?;
    put(&first, "after-the-backup")?;
    drop(server);
    create(&["--etcd-servers", from], &offline)?;
    run(tiphys().args(["backup", "verify"]).arg(&online))?;

    let (second, third) = (Cluster::new("other-etcd", 16)?, Cluster::new("from-etcd", 17)?);
    let restore = |cluster: &Cluster, file: &Path, more: &[&str]| {
        let mut command = tiphys();
        run(command.args(["backup", "restore", "--data-dir"]).arg(cluster.data_dir()).args(more).arg(file))
    };
    let said = restore(&second, &online, &["--etcd-servers", to])?;
    ensure!(said.contains(&format!("--etcd-servers {to}")), "{said}");
    let again = Cluster::new("again", 18)?;
    let refused = restore(&again, &online, &["--etcd-servers", to]);
    ensure!(
        refused.is_err_and(|error| format!("{error:#}").contains("name an empty one")),
        "two in one etcd"
    );
    restore(&third, &offline, &[])?;
    let ranges = first.ranges();
    let at = |address| {
        let mut flags: Vec<&str> = ranges.iter().map(String::as_str).collect();
        flags.extend(["--bind-address", address]);
        flags
    };
    let on_etcd = [at(ELSEWHERE), vec!["--node-ip", ADVERTISED, "--etcd-servers", to]].concat();
    let _second = serve(&second, &on_etcd)?;
    let _third = serve(&third, &at(FARTHER))?;
    ensure!(written(&second)? == ["z", "a"], "{:?}", written(&second)?);
    ensure!(written(&third)? == ["z", "a", "after-the-backup"], "{:?}", written(&third)?);
    // The first cluster's administrator is theirs.
    let server = format!("https://{ELSEWHERE}:{}", second.https_port());
    run(first.kubectl_command().args(["--server", &server, "get", "configmap", "a"]))?;
    for cluster in [&second, &third] {
        put(cluster, "more")?;
    }
    Ok(())
}

/// A damaged backup is refused before anything is made of it.
fn damaged(file: &Path) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let bad = file.with_extension("bad");
    std::fs::write(&bad, bytes)?;
    let output = tiphys().args(["backup", "verify"]).arg(&bad).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("take another backup"), "{said}");
    Ok(())
}

fn migrate() -> Result<()> {
    let etcd = Etcd::start(1)?;
    let urls = etcd.urls();
    let first = Cluster::new("moving", 14)?;
    let server = serve(&first, &[])?;
    for name in ["z", "a", "m"] {
        put(&first, name)?;
    }
    first.kubectl(&["label", "configmap", "z", "written=last"])?;
    let order = written(&first)?;
    ensure!(order == ["a", "m", "z"], "{order:?}");
    let move_state =
        |from: &str, to: &str| run(tiphys().args(["store", "migrate", "--from", from, "--to", to]));
    let (here, back) = (first.data_dir().display().to_string(), first.scratch("back").display().to_string());
    let refused = move_state(&here, &urls).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("already runs with the data directory"), "{refused}");
    first.stop()?;
    drop(server);
    let said = move_state(&here, &urls)?;
    ensure!(said.contains("tiphys up --etcd-servers"), "{said}");
    ensure!(move_state(&here, &urls).is_err_and(|error| format!("{error:#}").contains("name an empty one")));
    let server = serve(&first, &["--etcd-servers", &urls])?;
    ensure!(written(&first)? == order, "{:?}", written(&first)?);
    put(&first, "b")?;
    first.stop()?;
    drop(server);
    move_state(&urls, &back)?;
    std::fs::remove_dir_all(first.data_dir().join("store"))?;
    std::fs::rename(Path::new(&back).join("store"), first.data_dir().join("store"))?;
    let _server = serve(&first, &[])?;
    ensure!(written(&first)? == ["a", "m", "z", "b"], "{:?}", written(&first)?);
    Ok(())
}

/// An etcd that takes connections and never answers is waited for; a signal ends that, and it is no failure.
fn waits() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", silent.local_addr()?);
    let cluster = Cluster::new("waiting", 22)?;
    let mut server = Running::bounded(cluster.server_command().args(["--etcd-servers", &url]))?;
    let key = cluster.data_dir().join("pki/ca.key");
    eventually("it has begun", || key.exists().then_some(()).context("no keys"))?;
    run(Command::new("kill").arg(server.0.id().to_string()))?;
    let status = server.0.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}
