//! The engines that are measured, each with an empty store.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tiphys_store::{Embedded, Etcd, Store, embedded, etcd};

use crate::Outcome;

/// An engine; its data goes when it is dropped.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    _server: Option<Server>,
    dir: PathBuf,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // What is left of a temporary directory is of no consequence.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Engine {
    /// All there are on this machine, one at a time.
    pub(crate) async fn all(dir: &Path) -> Outcome<Vec<Self>> {
        let own = dir.join("embedded");
        let store = Arc::new(Embedded::open(&own, &embedded::Options::default())?);
        let mut all = vec![Self { name: "embedded", store, _server: None, dir: own }];
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok() {
            let theirs = dir.join("etcd");
            let (server, url) = Server::start(&theirs)?;
            let options = etcd::Options { servers: vec![url], ..etcd::Options::default() };
            let store = Arc::new(Etcd::connect(&options).await?);
            all.push(Self { name: "etcd", store, _server: Some(server), dir: theirs });
        }
        Ok(all)
    }
}

/// The distribution's etcd with one member; killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(dir: &Path) -> Outcome<(Self, String)> {
        let port = || Ok::<_, std::io::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (client, peer) =
            (format!("http://127.0.0.1:{}", port()?), format!("http://127.0.0.1:{}", port()?));
        std::fs::create_dir_all(dir)?;
        let child = Command::new("etcd")
            .args(["--name", "bench", "--log-level", "error", "--quota-backend-bytes", "8589934592"])
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg("--initial-cluster")
            .arg(format!("bench={peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok((Self(child), client))
    }
}
