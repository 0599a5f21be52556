//! Cluster DNS, in the process: names of Services and pods from the API, everything else from the host's resolvers.
//!
//! - It listens on the cluster's DNS address itself, which the node owns: a question needs no packet rule and leaves no
//!   entry in connection tracking, the usual cause of DNS time-outs under load.
//! - [`zone`] is an immutable table, built anew when Services or EndpointSlices change and swapped in whole; a question
//!   never waits for a change.

mod forward;
mod server;
pub mod zone;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_server::Server;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::{Client, Informer, Informers, PatchKind, Target, WriteOptions, typed};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use zone::Zone;

const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SLICES: Gvr = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
const SERVICE_NAME: &str = "kubernetes.io/service-name";
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
}

/// Serves until `stop` is cancelled.
pub async fn run(config: Config, client: Arc<dyn Client>, stop: CancellationToken) -> Result<(), Error> {
    let listen_error = |source| Error::Listen { address: config.listen, source };
    let udp = UdpSocket::bind(config.listen).await.map_err(listen_error)?;
    let tcp = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    let own = match config.listen {
        SocketAddr::V4(v4) => *v4.ip(),
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let names = Names::follow(client, &config.domain).await;
    let upstreams = forward::Upstreams::read(&config.resolv_conf, own);
    let mut server = Server::new(server::Handler { zone: names.zone.clone(), upstreams });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_TIMEOUT, TCP_QUEUE);
    tokio::select! {
        () = names.keep() => {}
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
struct Names {
    zone: Arc<ArcSwap<Zone>>,
    domain: String,
    services: Arc<Informer>,
    slices: Arc<Informer>,
    changed: Arc<Notify>,
}

impl Names {
    async fn follow(client: Arc<dyn Client>, domain: &str) -> Self {
        let informers = Informers::new(client);
        let (services, slices) = (informers.of(&SERVICES), informers.of(&SLICES));
        let changed = Arc::new(Notify::new());
        for informer in [&services, &slices] {
            informer.synced().await;
            let changed = changed.clone();
            informer.on_change(Box::new(move |_, _| changed.notify_one()));
        }
        let zone = Arc::new(ArcSwap::from_pointee(Zone::build(domain, [])));
        let names = Self { zone, domain: domain.to_owned(), services, slices, changed };
        names.rebuild();
        names
    }

    async fn keep(&self) {
        loop {
            self.changed.notified().await;
            self.rebuild();
        }
    }

    fn rebuild(&self) {
        let mut by_service: HashMap<(Box<str>, String), Vec<EndpointSlice>> = HashMap::new();
        for slice in self.slices.list("") {
            let Some(service) = slice.meta().labels.get(SERVICE_NAME).map(str::to_owned) else { continue };
            let key = (slice.meta().namespace.clone(), service);
            by_service.entry(key).or_default().extend(decode(&slice));
        }
        let services: Vec<Service> = self.services.list("").iter().filter_map(decode).collect();
        let with_slices = services.iter().map(|service| {
            let meta = &service.metadata;
            let key =
                (meta.namespace.clone().unwrap_or_default().into(), meta.name.clone().unwrap_or_default());
            (service, by_service.get(&key).map(Vec::as_slice).unwrap_or_default())
        });
        self.zone.store(Arc::new(Zone::build(&self.domain, with_slices)));
    }
}

fn decode<T: typed::Kind>(object: &Object) -> Option<T> {
    typed::decode(object)
        .inspect_err(|error| tracing::warn!(%error, object = object.meta().key(), "unreadable object"))
        .ok()
}
