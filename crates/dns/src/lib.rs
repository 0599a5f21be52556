//! Cluster DNS, in the process: names of Services and pods from the API, everything else from the host's resolvers.
//!
//! - It listens on the cluster's DNS address itself, which the node owns: a question needs no packet rule and leaves no
//!   entry in connection tracking, the usual cause of DNS time-outs under load.
//! - [`zone`] is a table that changes by the names of one Service at a time: a question waits no longer than for those.
//! - It answers from the first moment on. Questions for the cluster's names wait a little until its Services are known, and
//!   are told then that it failed (SERVFAIL); all others are answered at once.

mod forward;
mod server;
mod tcp;
#[cfg(test)]
mod tests;
pub mod zone;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use hickory_server::Server;
use parking_lot::RwLock;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::{Client, Informers, PatchKind, Services, Target, WriteOptions, typed};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use forward::StubDomain;
use forward::Upstreams;
use zone::Zone;

const SERVICES: Gvr = Gvr::new("", "v1", "services");

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
    let upstreams = Arc::new(Upstreams::new(&config.resolv_conf, own, &config.stub_domains)?);
    let zone = Arc::new(RwLock::new(Zone::new(&config.domain, own)));
    let (complete, is_complete) = watch::channel(false);
    let handler = server::Handler { zone: zone.clone(), upstreams, complete: is_complete };
    let mut server = Server::new(handler.clone());
    server.register_socket(udp);
    tokio::select! {
        () = follow(client, &zone, &complete) => {}
        () = tcp::serve(tcp, handler, tcp::CONNECTIONS) => {}
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

/// Makes the zone follow the Services.
async fn follow(client: Arc<dyn Client>, zone: &RwLock<Zone>, complete: &watch::Sender<bool>) {
    let services = Services::follow(&Informers::new(client));
    services.synced().await;
    update(&services, zone);
    zone.write().complete();
    complete.send_replace(true);
    loop {
        services.changed().await;
        update(&services, zone);
    }
}

fn update(services: &Services, zone: &RwLock<Zone>) {
    let domain = zone.read().domain().to_owned();
    for key in services.take() {
        let names = match services.get(&key).as_ref().and_then(decode) {
            Some(service) => {
                let slices: Vec<_> = services.slices(&key).iter().filter_map(decode).collect();
                zone::names(&domain, &service, &slices)
            }
            None => zone::Names::new(),
        };
        zone.write().set(&key, names);
    }
}

fn decode<T: typed::Kind>(object: &Object) -> Option<T> {
    typed::decode(object)
        .inspect_err(|error| tracing::warn!(%error, object = object.meta().key(), "unreadable object"))
        .ok()
}
