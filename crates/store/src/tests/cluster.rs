//! Three members of a real etcd, killed, paused and cut off from each other while clients write.
//!
//! The test runs itself again in network, mount and process namespaces of its own, where each member is a machine:
//! a namespace with one link to the other members and one to the clients, so that a member can lose the one and keep
//! the other. It needs root, `ip` and etcd; without them it passes and says so.
//!
//! Each writer counts in a key of its own, by compare-and-swap. A write that is told as lost may be done or not; one
//! that is told as done must be there, and one that is told as refused would be a lie, as nobody else writes there.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;

use super::etcd::{installed, memory_dir};
use crate::etcd::Options;
use crate::{Error, Etcd, Event, Revision, Store, Txn, TxnResult, WatchFrom};

const INSIDE: &str = "TIPHYS_STORE_CLUSTER";
const WRITERS: usize = 4;
/// Writes that must succeed, all writers together, to show that the cluster works.
const PROGRESS: u64 = 40;
/// How long that may take after a fault; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_cluster_that_fails_in_parts_never_lies() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(inside());
    }
    let able =
        Command::new("unshare").args(["--net", "--mount", "ip", "link"]).stdout(Stdio::null()).status();
    if !able.is_ok_and(|status| status.success()) || !installed() {
        return eprintln!("no root, ip or etcd: nothing was tested");
    }
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["tests::cluster::a_cluster_that_fails_in_parts_never_lies", "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

/// Address of a member among the members (1) or for clients (2), from RFC 2544's range for tests.
fn address(network: u8, member: usize) -> String {
    format!("198.18.{network}.{}", member + 1)
}

/// A member's machine, and the program in it.
struct Member {
    number: usize,
    dir: PathBuf,
    child: Child,
}

impl Member {
    fn start(number: usize, dir: PathBuf) -> Self {
        for network in [1, 2] {
            let (host, inner) = (format!("h{network}-{number}"), format!("i{network}"));
            if network == 1 {
                ip(&format!("netns add m{number}"));
            }
            ip(&format!("link add {host} type veth peer name {inner} netns m{number}"));
            ip(&format!("link set {host} master bridge{network} up"));
            let address = address(network, number);
            ip(&format!("-n m{number} address add {address}/24 dev {inner}"));
            ip(&format!("-n m{number} link set {inner} up"));
        }
        ip(&format!("-n m{number} link set lo up"));
        let child = Self::spawn(number, &dir);
        Self { number, dir, child }
    }

    fn spawn(number: usize, dir: &PathBuf) -> Child {
        let peer = |member| format!("http://{}:2380", address(1, member));
        let client = format!("http://{}:2379", address(2, number));
        let cluster: Vec<_> = (0..3).map(|member| format!("m{member}={}", peer(member))).collect();
        Command::new("ip")
            .args(["netns", "exec", &format!("m{number}"), "etcd", "--name", &format!("m{number}")])
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen-peer-urls", &peer(number), "--initial-advertise-peer-urls", &peer(number)])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        self.child = Self::spawn(self.number, &self.dir);
    }

    /// Cuts it off from the other members, but not from clients.
    fn link(&self, state: &str) {
        ip(&format!("link set h1-{} {state}", self.number));
    }
}

/// What the writers were told: done, lost.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    done: [u64; WRITERS],
    lost: [u64; WRITERS],
}

impl Told {
    fn sum(&self) -> u64 {
        self.done.iter().sum()
    }
}

async fn inside() {
    let dir = memory_dir();
    // Namespaces are named there, and those of the machine outside are none of this one's business.
    std::fs::create_dir_all("/run/netns").unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run/netns"]).status().unwrap().success());
    ip("link set lo up");
    for network in [1, 2] {
        ip(&format!("link add bridge{network} type bridge"));
        ip(&format!("link set bridge{network} up"));
    }
    ip("address add 198.18.2.254/24 dev bridge2");
    let mut members: Vec<_> =
        (0..3).map(|number| Member::start(number, dir.path().join(number.to_string()))).collect();
    let servers = (0..3).map(|member| format!("http://{}:2379", address(2, member))).collect();
    let options = Options { servers, ..Options::default() };
    let store = Etcd::connect(&options).await.unwrap();
    let (told, progress) = watch::channel(Told::default());
    let told = Arc::new(told);
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, told.clone()))).collect();
    let seen = tokio::spawn(watch_all(store.clone()));
    works(&progress).await;

    // Whoever is spoken to first, and then whoever is spoken to after that.
    let victim = store.spoken_to();
    members[victim].kill();
    works(&progress).await;
    members[victim].again();
    let victim = store.spoken_to();
    members[victim].signal("STOP");
    works(&progress).await;
    members[victim].signal("CONT");
    works(&progress).await;
    let victim = store.spoken_to();
    members[victim].link("down");
    works(&progress).await;
    members[victim].link("up");
    works(&progress).await;

    writers.iter().for_each(tokio::task::JoinHandle::abort);
    futures::future::join_all(writers).await;
    check(&store, &progress.borrow(), seen).await;
    members.iter_mut().for_each(Member::kill);
}

/// Waits until the writers have got on.
async fn works(progress: &watch::Receiver<Told>) {
    let mut progress = progress.clone();
    let goal = progress.borrow().sum() + PROGRESS;
    let reached = tokio::time::timeout(PATIENCE, progress.wait_for(|told| told.sum() >= goal)).await;
    assert!(reached.is_ok(), "the cluster does not work again");
}

/// Counts, until it is aborted.
async fn write(store: Etcd, writer: usize, told: Arc<watch::Sender<Told>>) {
    let key = format!("/n/{writer}");
    let (mut number, mut at) = (0_u64, 0);
    loop {
        match store.txn(Txn::update(key.as_str(), (number + 1).to_string(), at)).await {
            Ok(TxnResult::Committed { revision }) => {
                (number, at) = (number + 1, revision);
                told.send_modify(|told| told.done[writer] += 1);
            }
            Ok(refused) => panic!("writer {writer} at {at} was refused: {refused:?}"),
            Err(Error::Unavailable(_)) => {
                told.send_modify(|told| told.lost[writer] += 1);
                (number, at) = settled(&store, &key).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The state that follows a lost write: it may still be under way in the cluster, so a write of its own comes first,
/// after which what was under way can only be refused.
async fn settled(store: &Etcd, key: &str) -> (u64, Revision) {
    loop {
        let Ok(found) = store.get(key.into()).await else { continue };
        let (number, at) = found.map_or((0, 0), |kv| (number(&kv.value), kv.mod_revision));
        let same = Txn::update(key, number.to_string(), at);
        if let Ok(TxnResult::Committed { revision }) = store.txn(same).await {
            return (number, revision);
        }
    }
}

fn number(value: &[u8]) -> u64 {
    String::from_utf8_lossy(value).parse().unwrap()
}

/// Every event under the counters, until `/end` is written.
async fn watch_all(store: Etcd) -> Vec<Event> {
    let mut watch = store.watch(WatchFrom::prefix("/", 1)).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        assert!(batch.events.iter().all(|event| event.revision() <= batch.revision));
        seen.extend(batch.events);
        if seen.last().is_some_and(|event| event.key().as_str() == Some("/end")) {
            return seen;
        }
    }
}

async fn check(store: &Etcd, told: &Told, seen: tokio::task::JoinHandle<Vec<Event>>) {
    let end = store.txn(Txn::create("/end", "")).await.unwrap().committed().unwrap();
    let seen = seen.await.unwrap();
    // The store was empty, so every revision is an event: none is missing, none comes twice, all are in order.
    let revisions: Vec<_> = seen.iter().map(Event::revision).collect();
    assert_eq!(revisions, (2..=end).collect::<Vec<_>>());
    for writer in 0..WRITERS {
        let kv = store.get(format!("/n/{writer}").into()).await.unwrap().unwrap();
        let (number, done, lost) = (number(&kv.value), told.done[writer], told.lost[writer]);
        // One more may have been under way when the writer ended.
        assert!(
            number >= done && number <= done + lost + 1,
            "writer {writer}: {number}, {done} done, {lost} lost"
        );
    }
    eprintln!("{told:?}");
}
