//! The API as others use it: the distribution's `etcdctl`, an etcd restored from a snapshot, and the store's own engine
//! for etcd, all against an embedded store.
//!
//! Without the distribution's programs a test passes and says so: `make test` installs them.

#![allow(clippy::unwrap_used, reason = "a test's panic is its failure")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tiphys_etcd_api::{Config, Identity};
use tiphys_store::embedded::{Embedded, Options};
use tiphys_store::etcd::{self, Tls};
use tiphys_store::{
    Condition, Done, Error, Etcd, Is, Op, Operand, Put, Range, Script, Step, Store, Txn, WatchFrom,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A served store, and the files of its clients.
struct Served {
    store: Arc<Embedded>,
    url: String,
    dir: tempfile::TempDir,
    _stop: DropGuard,
}

/// An authority, and how it signs.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate and its key, for a group.
    fn sign(&self, group: &str) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

impl Served {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        for (name, group) in [("admin", "system:masters"), ("node", "system:nodes")] {
            let (certificate, key) = authority.sign(group);
            write(&format!("{name}.crt"), &certificate);
            write(&format!("{name}.key"), &key);
        }
        write("ca.crt", &authority.0.pem());
        let (cert_pem, key_pem) = authority.sign("server");
        let store = Arc::new(Embedded::in_memory(&Options::default()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let config = Config {
            store: store.clone(),
            listener,
            identity: Identity { cert_pem, key_pem, ca_pem: authority.0.pem() },
            name: "here".into(),
            scratch: dir.path().to_owned(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(tiphys_etcd_api::serve(config, stop.clone()));
        Self { store, url, dir, _stop: stop.drop_guard() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn etcdctl(&self, who: &str, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url]).args(args);
        command.arg("--cacert").arg(self.file("ca.crt"));
        command.arg("--cert").arg(self.file(&format!("{who}.crt")));
        command.arg("--key").arg(self.file(&format!("{who}.key")));
        command
    }

    /// What etcdctl prints.
    fn ctl(&self, args: &[&str]) -> String {
        checked(&mut self.etcdctl("admin", args))
    }

    async fn client(&self) -> Etcd {
        let file = |name| Some(self.file(name));
        let tls = Tls { ca: file("ca.crt"), cert: file("admin.crt"), key: file("admin.key") };
        let options = etcd::Options { servers: vec![self.url.clone()], tls, ..etcd::Options::default() };
        Etcd::connect(&options).await.unwrap()
    }
}

fn checked(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.trim_end().to_owned()
}

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("{program} is not installed (scripts/packages test): nothing was tested");
    }
    found.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_reads_and_writes() {
    if !installed("etcdctl") {
        return;
    }
    let served = Served::start().await;
    assert_eq!(served.ctl(&["put", "/a", "1"]), "OK");
    assert_eq!(served.ctl(&["put", "--prev-kv", "/a", "2"]), "OK\n/a\n1");
    served.ctl(&["put", "/b", "3"]);
    assert_eq!(served.ctl(&["get", "/", "--prefix"]), "/a\n2\n/b\n3");
    assert_eq!(served.ctl(&["get", "/", "--prefix", "--rev=2"]), "/a\n1");
    assert_eq!(served.ctl(&["get", "/", "--prefix", "--keys-only", "--limit=1"]), "/a");
    assert_eq!(served.ctl(&["get", "", "--from-key", "--order=DESCEND", "--sort-by=MODIFY"]), "/b\n3\n/a\n2");
    assert!(served.ctl(&["get", "/a", "-w", "json"]).contains("\"mod_revision\":3,\"version\":2"));
    assert_eq!(served.ctl(&["del", "--prev-kv", "/b"]), "1\n/b\n3");

    let mut txn = served.etcdctl("admin", &["txn"]);
    let mut txn = txn.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let script = "value(\"/a\") = \"2\"\nver(\"/c\") = \"0\"\n\nput /c new\nget /c\n\nget /a\n\n";
    txn.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let said = txn.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "SUCCESS\n\nOK\n\n/c\nnew");

    assert_eq!(served.ctl(&["compaction", "4"]), "compacted revision 4");
    let gone = served.etcdctl("admin", &["get", "/a", "--rev=2"]).output().unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("required revision has been compacted"));
    let refused = served.etcdctl("node", &["get", "/a"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("permission denied"));

    assert!(served.ctl(&["endpoint", "status", "-w", "json"]).contains("\"version\":\"3.5"));
    served.ctl(&["endpoint", "health"]);
    assert!(served.ctl(&["endpoint", "hashkv"]).starts_with("https://"));
    assert!(served.ctl(&["member", "list"]).contains("started, here"));
    assert_eq!(served.ctl(&["alarm", "list"]), "");
    assert!(served.ctl(&["defrag"]).starts_with("Finished defragmenting"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_holds_leases_and_watches() {
    if !installed("etcdctl") {
        return;
    }
    let served = Served::start().await;
    let granted = served.ctl(&["lease", "grant", "3600"]);
    let id = granted.split(' ').nth(1).unwrap();
    served.ctl(&["put", "/l", "1", "--lease", id]);
    let told = served.ctl(&["lease", "timetolive", id, "--keys"]);
    assert!(told.contains("granted with TTL(3600s)") && told.contains("[/l]"), "{told}");
    assert_eq!(served.ctl(&["lease", "list"]), format!("found 1 leases\n{id}"));
    assert!(served.ctl(&["lease", "keep-alive", "--once", id]).contains("keepalived with TTL(3600)"));

    let mut command = served.etcdctl("admin", &["watch", "/", "--prefix", "--rev=2", "--prev-kv"]);
    let mut watch = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line = || lines.next().unwrap();
    assert_eq!([line(), line(), line()], ["PUT", "/l", "1"]);
    served.ctl(&["lease", "revoke", id]);
    assert_eq!([line(), line(), line(), line(), line()], ["DELETE", "/l", "1", "/l", ""]);
    assert_eq!(served.ctl(&["get", "/l"]), "");
    drop(watch);
    // The server notices that the client is gone.
    while served.store.status().await.unwrap().watches > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A child that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_becomes_an_etcd() {
    if !installed("etcdctl") || !installed("etcd") {
        return;
    }
    let served = Served::start().await;
    let lease = served.store.grant(Duration::from_secs(3600)).await.unwrap();
    // Enough for branches in the file, a value of several pages, and a transaction of several keys.
    for n in 0..400 {
        let txn = Txn::new(Op::put(format!("/registry/{n:04}"), vec![b'x'; 300]));
        served.store.txn(txn.and(Op::put_with_lease("/leased", n.to_string(), lease))).await.unwrap();
    }
    served.store.txn(Txn::new(Op::put("/large", vec![7; 100_000]))).await.unwrap();
    served.store.txn(Txn::new(Op::delete("/registry/0007"))).await.unwrap();
    let file = served.file("snapshot.db");
    let file = file.to_str().unwrap();
    served.ctl(&["snapshot", "save", file]);
    let data = served.file("etcd");
    let data = data.to_str().unwrap();
    checked(Command::new("etcdctl").env("ETCDCTL_API", "3").args([
        "snapshot",
        "restore",
        file,
        "--data-dir",
        data,
    ]));
    let (_etcd, restored) = start_etcd(Path::new(data)).await;
    assert_eq!(restored.hash(0).await, served.store.hash(0).await, "every key with all its numbers");
    assert_eq!(restored.lease(lease).await.unwrap().keys, ["/leased".into()]);
}

async fn start_etcd(dir: &Path) -> (Running, Etcd) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(dir).args(["--log-level", "error"]);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:0"]);
    let child = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let options = etcd::Options { servers: vec![url], ..etcd::Options::default() };
    (child, Etcd::connect(&options).await.unwrap())
}

/// The engine for etcd finds here what it finds in etcd, and relies on reports of progress, which an older etcd has
/// wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_for_etcd_works_with_it() {
    let served = Served::start().await;
    let store = served.client().await;
    let mut watch = store.watch(WatchFrom::prefix("/p/", 0).with_previous()).await.unwrap();
    let mut other = store.watch(WatchFrom::prefix("/q/", 0)).await.unwrap();
    assert_eq!(store.txn(Txn::create("/p/a", "1")).await.unwrap().committed(), Some(2));
    let taken = store.txn(Txn::create("/p/a", "2").when("/p/b", 0)).await.unwrap();
    assert_eq!(taken.committed(), None);
    let script = Script {
        conditions: vec![Condition::key("/p/a", Is::Greater, Operand::Version(0))],
        then: vec![
            Step::Put(Put { previous: true, ..Put::new("/p/a", "2") }),
            Step::Range(Range::prefix("/p/")),
        ],
        ..Script::default()
    };
    let done = store.run(script).await.unwrap();
    assert!(done.held && matches!(&done.steps[1], Done::Range(found) if found.items[0].value == "2"));
    assert_eq!(store.txn(Txn::delete("/p/a", 3)).await.unwrap().committed(), Some(4));
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(watch.next().await.unwrap().unwrap().events);
    }
    assert_eq!(events.iter().map(tiphys_store::Event::revision).collect::<Vec<_>>(), [2, 3, 4]);

    store.request_progress().await.unwrap();
    for watch in [&mut watch, &mut other] {
        let report = watch.next().await.unwrap().unwrap();
        assert_eq!((report.revision, report.events.len()), (4, 0));
        assert!(watch.next().now_or_never().is_none(), "one report for one request");
    }
    store.compact(3).await.unwrap();
    assert_eq!(store.range(Range::prefix("/").at(2)).await, Err(Error::Compacted { requested: 2, at: 3 }));
    let past = store.watch(WatchFrom::prefix("/", 2)).await.err();
    assert_eq!(past, Some(Error::Compacted { requested: 2, at: 3 }));
    assert_eq!(store.status().await.unwrap().compacted, 3);
    assert_eq!(store.hash(0).await, served.store.hash(0).await);
}
