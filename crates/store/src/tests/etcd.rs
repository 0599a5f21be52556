//! The etcd engine before a real etcd, the distribution's.
//!
//! Without the program the tests pass and say so: `make test` installs it.

use std::cell::RefCell;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::conformance::conform;
use super::{next, shown};
use crate::etcd::{ConnectError, Login, Options, Tls};
use crate::{Error, Etcd, Op, Range, Store, Txn, WatchFrom};

/// Whether etcd is installed.
pub(super) fn installed() -> bool {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("etcd is not installed (scripts/packages test): nothing was tested");
    }
    found.is_ok()
}

/// A directory in memory, where there is one: these tests are not about disks.
pub(super) fn memory_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("tiphys-etcd-").tempdir_in(dir).unwrap()
}

/// An etcd of one member, on loopback; killed when dropped.
pub(super) struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    tls: Vec<String>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(memory_dir(), Vec::new())
    }

    /// With more flags about TLS, in a directory that may hold their files.
    fn with(dir: tempfile::TempDir, tls: Vec<String>) -> Self {
        let port = free_port();
        Self { child: spawn(dir.path(), port, &tls), port, dir, tls }
    }

    pub(super) fn options(&self) -> Options {
        Options { servers: vec![url(self.port, &self.tls)], ..Options::default() }
    }

    async fn store(&self) -> Etcd {
        Etcd::connect(&self.options()).await.unwrap()
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the same data.
    pub(super) fn again(&mut self) {
        self.child = spawn(self.dir.path(), self.port, &self.tls);
    }
}

fn url(port: u16, tls: &[String]) -> String {
    format!("{}://127.0.0.1:{port}", if tls.is_empty() { "http" } else { "https" })
}

fn spawn(dir: &Path, port: u16, tls: &[String]) -> Child {
    let url = url(port, tls);
    Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", "http://127.0.0.1:0", "--log-level", "error"])
        // An election is over at once, and the shortest lease is a second.
        .args(["--heartbeat-interval", "20", "--election-timeout", "100"])
        .args(tls)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that is not given to connections, so that it is still free when a killed server comes back.
fn free_port() -> u16 {
    let mut random = super::Random::fresh();
    let ports = std::iter::repeat_with(|| 20_000 + random.below(12_000) as u16);
    ports.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

async fn put(store: &Etcd, key: &str, value: &str) -> Result<u64, Error> {
    let value = value.to_owned();
    store.txn(Txn::new(Op::put(key, value))).await.map(|result| result.committed().unwrap())
}

#[tokio::test]
async fn a_real_etcd_conforms() {
    if !installed() {
        return;
    }
    // One for each case, whose store is gone when the next one begins.
    let current = RefCell::new(None);
    conform(async || {
        let server = current.replace(None);
        drop(server);
        let server = Server::start();
        let store = server.store().await;
        current.replace(Some(server));
        Arc::new(store)
    })
    .await;
}

#[tokio::test]
async fn watches_and_calls_outlive_a_killed_etcd() {
    if !installed() {
        return;
    }
    let mut server = Server::start();
    let store = server.store().await;
    let mut watch = store.watch(WatchFrom::prefix("/w/", 0)).await.unwrap();
    put(&store, "/w/a", "1").await.unwrap();
    server.kill();
    server.again();
    // Nobody may repeat the first one but who knows that the server was dead.
    while let Err(error) = put(&store, "/w/a", "2").await {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }
    put(&store, "/x", "elsewhere").await.unwrap();
    put(&store, "/w/a", "3").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(shown(&next(&mut watch).await));
    }
    assert_eq!(seen, ["2 /w/a=1", "3 /w/a=2", "5 /w/a=3"]);
}

#[tokio::test]
async fn one_of_several_compacts() {
    if !installed() {
        return;
    }
    let server = Server::start();
    let options = Options { retention: Some(Duration::from_millis(300)), ..server.options() };
    let (one, _two) = (Etcd::connect(&options).await.unwrap(), Etcd::connect(&options).await.unwrap());
    // Each turn of one of them is an event.
    let mut turns = one.watch(WatchFrom::prefix("compact_rev_key", 1)).await.unwrap();
    let mut versions = Vec::new();
    while one.status().await.unwrap().compacted < 4 {
        put(&one, "/a", "").await.unwrap();
        let events = next(&mut turns).await.events;
        versions.extend(events.iter().map(|event| match event {
            crate::Event::Put { kv, .. } => kv.version,
            crate::Event::Delete { .. } => 0,
        }));
    }
    assert!(versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{versions:?}");
    let gone = one.range(Range::prefix("/").at(2)).await;
    assert!(matches!(gone, Err(Error::Compacted { requested: 2, .. })), "{gone:?}");
}

/// Files of a CA and of one certificate for everybody.
fn make_certificates(dir: &Path) -> Tls {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(ca, key).unwrap();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    Tls {
        ca: write("ca.crt", issuer.pem()),
        cert: write("leaf.crt", leaf.pem()),
        key: write("leaf.key", leaf_key.serialize_pem()),
    }
}

fn etcdctl(server: &Server, tls: &Tls, args: &[&str]) {
    let shown = |path: &Option<PathBuf>| path.clone().unwrap();
    let status = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg("--endpoints")
        .arg(url(server.port, &server.tls))
        .arg("--cacert")
        .arg(shown(&tls.ca))
        .arg("--cert")
        .arg(shown(&tls.cert))
        .arg("--key")
        .arg(shown(&tls.key))
        .args(args)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{args:?}");
}

#[tokio::test]
async fn certificates_and_passwords_open_the_door() {
    if !installed() {
        return;
    }
    let dir = memory_dir();
    let tls = make_certificates(dir.path());
    let file = |path: &Option<PathBuf>| path.as_ref().unwrap().display().to_string();
    let flags = [("--trusted-ca-file", &tls.ca), ("--cert-file", &tls.cert), ("--key-file", &tls.key)];
    let flags = flags.iter().map(|(flag, path)| format!("{flag}={}", file(path)));
    let mut server = Server::with(dir, flags.chain(["--client-cert-auth".to_owned()]).collect());
    let options = Options { tls: tls.clone(), ..server.options() };
    let store = Etcd::connect(&options).await.unwrap();
    put(&store, "/a", "1").await.unwrap();

    let elsewhere = memory_dir();
    let others = Options { tls: make_certificates(elsewhere.path()), ..server.options() };
    let refused = Etcd::connect(&others).await.err().unwrap();
    assert!(matches!(refused, ConnectError::Silent { .. }), "{refused}");
    let advice = refused.to_string();
    assert!(
        advice.contains("invalid peer certificate") && advice.contains("check --etcd-servers"),
        "{advice}"
    );

    etcdctl(&server, &tls, &["user", "add", "root:secret"]);
    etcdctl(&server, &tls, &["user", "grant-role", "root", "root"]);
    etcdctl(&server, &tls, &["auth", "enable"]);
    let refused = put(&store, "/a", "2").await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    let login = |password: &str| Some(Login { name: "root".into(), password: password.into() });
    let wrong = Etcd::connect(&Options { login: login("wrong"), ..options.clone() }).await.err().unwrap();
    assert!(wrong.to_string().contains("authentication failed"), "{wrong}");
    let store = Etcd::connect(&Options { login: login("secret"), ..options }).await.unwrap();
    put(&store, "/a", "3").await.unwrap();
    // A new process does not know the old one's tokens.
    server.kill();
    server.again();
    assert_eq!(store.get("/a".into()).await.unwrap().unwrap().value, "3");
}
