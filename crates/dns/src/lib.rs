//! Cluster DNS, in the process: names of Services and pods from the API, everything else from the host's resolvers.
//!
//! - It listens on the cluster's DNS address itself, which the node owns: a question needs no packet rule and leaves no
//!   entry in connection tracking, the usual cause of DNS time-outs under load.
//! - [`zone`] is a table that changes by the names of one Service at a time: a question waits no longer than for those.

mod forward;
mod server;
#[cfg(test)]
mod tests;
pub mod zone;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use parking_lot::RwLock;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::{Client, Informers, PatchKind, Services, Target, WriteOptions, typed};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

pub use forward::StubDomain;
use forward::Upstreams;
use zone::Zone;

const SERVICES: Gvr = Gvr::new("", "v1", "services");
/// How long a TCP client may stay silent.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers waiting for one slow TCP client.
const TCP_QUEUE: usize = 32;

/// What cluster DNS is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; the address is one of this node's.
    pub listen: SocketAddr,
    /// Domain of the cluster's names.
    pub domain: String,
    /// The host's resolvers, for all other names.
    pub resolv_conf: PathBuf,
    /// Domains with resolvers of their own.
    pub stub_domains: Vec<StubDomain>,
}

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; another --cluster-dns or --service-cidr may be needed")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The resolvers of other names cannot be used.
    #[error("other resolvers cannot be asked: {0}")]
    Resolvers(#[from] hickory_resolver::net::NetError),
}

/// Serves until `stop` is cancelled.
pub async fn run(config: Config, client: Arc<dyn Client>, stop: CancellationToken) -> Result<(), Error> {
    let listen_error = |source| Error::Listen { address: config.listen, source };
    let udp = UdpSocket::bind(config.listen).await.map_err(listen_error)?;
    let tcp = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    serve((udp, tcp), &config, client, stop).await
}

/// [`run`] on sockets of the caller's.
pub async fn serve(
    (udp, tcp): (UdpSocket, TcpListener),
    config: &Config,
    client: Arc<dyn Client>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let own = config.listen.ip();
    let upstreams = Upstreams::new(&config.resolv_conf, own, &config.stub_domains)?;
    let started = Following::start(client, Zone::new(&config.domain, own));
    let Some(following) = stop.run_until_cancelled(started).await else { return Ok(()) };
    let mut server = Server::new(server::Handler { zone: following.zone.clone(), upstreams });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_TIMEOUT, TCP_QUEUE);
    tokio::select! {
        () = following.keep() => {}
        () = stop.cancelled() => {}
    }
    // Ends its tasks at once. Its graceful end would wait for the next question; whoever asks now asks again.
    drop(server);
    Ok(())
}

/// Puts the Service `kube-dns` there, at the address where DNS answers, as every Kubernetes has it.
pub async fn ensure_service(client: &dyn Client, address: Ipv4Addr) -> Result<(), Status> {
    let port =
        |name: &str, protocol: &str| serde_json::json!({"name": name, "port": 53, "protocol": protocol});
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        }},
        "spec": {"clusterIP": address, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
    });
    let options = WriteOptions { field_manager: "tiphys".into(), force: true, dry_run: false };
    let target = Target::new(&SERVICES, "kube-system", "kube-dns");
    client.patch(&target, PatchKind::Apply, service.to_string().into(), &options).await.map(drop)
}

/// The zone and what it is made from.
struct Following {
    zone: Arc<RwLock<Zone>>,
    services: Services,
}

impl Following {
    async fn start(client: Arc<dyn Client>, zone: Zone) -> Self {
        let services = Services::follow(&Informers::new(client));
        services.synced().await;
        let names = Self { zone: Arc::new(RwLock::new(zone)), services };
        names.update();
        names
    }

    async fn keep(&self) {
        loop {
            self.services.changed().await;
            self.update();
        }
    }

    fn update(&self) {
        let domain = self.zone.read().domain().to_owned();
        for key in self.services.take() {
            let names = match self.services.get(&key).as_ref().and_then(decode) {
                Some(service) => {
                    let slices: Vec<_> = self.services.slices(&key).iter().filter_map(decode).collect();
                    zone::names(&domain, &service, &slices)
                }
                None => zone::Names::new(),
            };
            self.zone.write().set(&key, names);
        }
    }
}

fn decode<T: typed::Kind>(object: &Object) -> Option<T> {
    typed::decode(object)
        .inspect_err(|error| tracing::warn!(%error, object = object.meta().key(), "unreadable object"))
        .ok()
}
