//! The node: its groundwork (network, container runtime, own images), and kubelet, proxy and DNS upon it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tiphys_api::{Gvr, Object, Value};
use tiphys_apiserver::ApiServer;
use tiphys_apiserver::auth::User;
use tiphys_apiserver::pki::{Leaf, Pki};
use tiphys_client::kubeconfig::{Kubeconfig, Overrides};
use tiphys_client::remote::RemoteClient;
use tiphys_client::{Client, Informers};
use tiphys_kubelet::Shutdown;
use tiphys_kubelet::server::Config as Serving;
use tiphys_runtime::Runtime;
use tiphys_runtime::containerd::{Containerd, Kept, connect, images};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::components::Components;
use crate::applets::image;
use crate::cli::{self, NodeFlags};
use crate::settings::Settings;

const NODES: Gvr = Gvr::new("", "v1", "nodes");
const LEASES: Gvr = Gvr::new("coordination.k8s.io", "v1", "leases");
/// Where kubelets keep their leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The host's resolvers, for pods' names outside the cluster.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the kubelet is set to where nothing else is said.
const KUBELET_DEFAULTS: &[u8] = include_bytes!("kubelet.yaml");
/// The control group above all pods, at the root of its hierarchy, where monitoring tools look for it.
pub const CGROUP_ROOT: &str = "kubepods";

/// A part of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePart {
    /// Pods.
    Kubelet,
    /// Services.
    Proxy,
    /// Names.
    Dns,
}

impl NodePart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kubelet, Self::Proxy, Self::Dns];

    /// As `--disable` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Proxy => "proxy",
            Self::Dns => "dns",
        }
    }
}

/// What the kubelet stands on.
pub struct Ground {
    containerd: Option<Kept>,
    runtime: Option<Arc<dyn Runtime>>,
    /// How the kubelet is asked to end its pods.
    shutdown: Shutdown,
}

impl Ground {
    /// Makes the network ready and the runtime run, with our images in it.
    pub async fn prepare(settings: &Settings, wanted: bool) -> Result<Self> {
        settings.network().prepare().await?;
        if !wanted {
            return Ok(Self { containerd: None, runtime: None, shutdown: Shutdown::default() });
        }
        let containerd = match &settings.runtime_endpoint {
            Some(_) => None,
            None => {
                let config = settings.containerd()?;
                let running = Containerd::start(&config).await?;
                Some(Kept::new(config, running))
            }
        };
        let socket = settings.runtime_socket()?;
        let runtime = connect(&socket).await?;
        import_images(settings, &socket, &runtime).await?;
        Ok(Self { containerd, runtime: Some(Arc::new(runtime)), shutdown: Shutdown::default() })
    }

    /// Has a running kubelet end its pods in their order, if its configuration gives them time for that.
    pub async fn shut_down(&self) {
        if self.runtime.is_some() {
            self.shutdown.carry_out().await;
        }
    }

    /// Ends containerd; containers keep running under their shims.
    pub async fn end(self) -> Result<()> {
        match self.containerd {
            Some(containerd) => Ok(containerd.stop().await?),
            None => Ok(()),
        }
    }
}

/// Gives the runtime the images made from this binary, unless it has those of this very binary.
async fn import_images(settings: &Settings, socket: &Path, runtime: &dyn Runtime) -> Result<()> {
    let program = std::env::current_exe()?;
    let stamp_path = settings.data_dir.join("images.stamp");
    let stamp = stamp(&program)?;
    let same_binary = std::fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp);
    if same_binary && runtime.image_status(image::PAUSE).await?.is_some() {
        return Ok(());
    }
    anyhow::ensure!(
        image::is_static(&program)?,
        "{} is linked dynamically, so it cannot run in the images that are made from it; build it with `make build`",
        program.display()
    );
    let (reader, writer) = std::io::pipe()?;
    let archive =
        tokio::task::spawn_blocking(move || image::write_archive(&program, std::io::BufWriter::new(writer)));
    let reader = tokio::fs::File::from_std(std::fs::File::from(std::os::fd::OwnedFd::from(reader)));
    let imported = images::import(socket, reader).await;
    archive.await?.context("cannot make the images from this binary")?;
    imported?;
    std::fs::write(&stamp_path, stamp).with_context(|| format!("cannot write {}", stamp_path.display()))
}

/// Changes whenever the binary does.
fn stamp(program: &Path) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(program)?;
    Ok(format!("{} {} {} {}.{}\n", meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// Gives each part of the node a client with its own identity.
pub struct Identities(Box<dyn Fn(NodePart) -> Arc<dyn Client>>);

impl Identities {
    /// In the process of the API server.
    pub fn local(api: &ApiServer, node_name: &str) -> Self {
        let (identities, node) = (api.identities(), format!("system:node:{node_name}"));
        Self(Box::new(move |part| match part {
            NodePart::Kubelet => identities.client(User::system(&node, &["system:nodes"]), "kubelet"),
            NodePart::Proxy => {
                identities.client(User::system("system:kube-proxy", &["system:node-proxier"]), "kube-proxy")
            }
            NodePart::Dns => identities.client(User::service_account("kube-system", "kube-dns", ""), "dns"),
        }))
    }

    /// Elsewhere: the kubeconfig's identity. Beside a kubelet, proxy and DNS take the `kube-proxy.kubeconfig` that lies
    /// with the kubelet's, where there is one: a node's own identity may not read all that they follow.
    pub async fn remote(kubeconfig: &Path, parts: &[NodePart]) -> Result<Self> {
        let own = remote(kubeconfig).await?;
        let beside = kubeconfig.with_file_name("kube-proxy.kubeconfig");
        let mixed = parts.contains(&NodePart::Kubelet) && parts.len() > 1;
        let network = if mixed && beside.exists() { remote(&beside).await? } else { own.clone() };
        Ok(Self(Box::new(move |part| match part {
            NodePart::Kubelet => own.clone(),
            NodePart::Proxy | NodePart::Dns => network.clone(),
        })))
    }
}

/// Starts the node's parts among the components of this process.
pub fn start(
    settings: &Settings,
    components: &mut Components,
    identities: &Identities,
    serving: Option<Serving>,
    ground: &Ground,
    parts: &[NodePart],
    stop: &CancellationToken,
) -> Result<()> {
    let mut serving = serving;
    let (network, ended) = (settings.network(), stop.clone());
    components.spawn("network", async move {
        ended.run_until_cancelled(network.keep()).await;
        Ok(())
    });
    for part in parts {
        let (client, stop) = ((identities.0)(*part), stop.clone());
        match part {
            NodePart::Kubelet => {
                let running =
                    tiphys_kubelet::run(kubelet_config(settings, serving.take(), ground)?, client, stop);
                components.spawn("kubelet", async move { Ok(running.await?) });
            }
            NodePart::Proxy => {
                let running = tiphys_proxy::run(proxy_config(settings), client, stop);
                components.spawn("proxy", async move { Ok(running.await?) });
            }
            NodePart::Dns => {
                let running = tiphys_dns::run(dns_config(settings), client, stop);
                components.spawn("dns", async move { Ok(running.await?) });
            }
        }
    }
    Ok(())
}

/// The kubelet's server, with the certificate that the cluster's own CA signed.
pub fn own_serving(settings: &Settings, pki: &Pki) -> Serving {
    let leaf = pki.leaf(Leaf::Kubelet);
    serving_with(settings, leaf.cert_pem.clone(), leaf.key_pem.clone(), pki.ca_pem().to_owned())
}

/// The kubelet's server of a node that runs alone; `None` where no certificate is at hand.
pub fn serving(settings: &Settings, flags: &cli::Serving) -> Result<Option<Serving>> {
    let path = |flag: &Option<PathBuf>, default: &str| {
        flag.clone().unwrap_or_else(|| settings.data_dir.join("pki").join(default))
    };
    let certificate = path(&flags.tls_cert_file, "kubelet.crt");
    if flags.tls_cert_file.is_none() && !certificate.exists() {
        tracing::warn!("no serving certificate (--tls-cert-file): logs, exec and port-forward will not work");
        return Ok(None);
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let key = read(&path(&flags.tls_private_key_file, "kubelet.key"))?;
    let ca = read(&path(&flags.client_ca_file, "ca.crt"))?;
    Ok(Some(serving_with(settings, read(&certificate)?, key, ca)))
}

fn serving_with(settings: &Settings, certificate: String, key: String, client_ca: String) -> Serving {
    Serving { address: settings.node_ip, port: settings.kubelet_port, certificate, key, client_ca }
}

fn kubelet_config(
    settings: &Settings,
    server: Option<Serving>,
    ground: &Ground,
) -> Result<tiphys_kubelet::Config> {
    let file = kubelet_settings(settings)?;
    let dns = vec![settings.cluster_dns.to_string()];
    Ok(tiphys_kubelet::Config {
        node_name: settings.node_name.clone(),
        node_ip: settings.node_ip,
        root_dir: settings.kubelet_dir(),
        log_dir: settings.data_dir.join("log/pods"),
        static_pod_dir: file.static_pod_path.clone().or(Some(settings.data_dir.join("manifests"))),
        resolv_conf: file.resolv_conf.clone().unwrap_or_else(|| RESOLV_CONF.into()),
        cluster_dns: if file.cluster_dns.is_empty() { dns } else { file.cluster_dns.clone() },
        cluster_domain: file.cluster_domain.clone().unwrap_or_else(|| settings.cluster_domain.clone()),
        cgroup_root: format!("/{CGROUP_ROOT}"),
        kept_images: vec![image::OWN.to_owned()],
        version: tiphys_apiserver::http::git_version(&build()),
        labels: BTreeMap::new(),
        taints: file.register_with_taints.clone(),
        settings: file,
        shutdown: ground.shutdown.clone(),
        server,
        runtime: ground.runtime.clone().context("the kubelet needs a container runtime")?,
    })
}

/// What the kubelet's own configuration file says.
fn kubelet_settings(settings: &Settings) -> Result<tiphys_kubelet::configuration::Settings> {
    let (name, bytes) = match &settings.kubelet_config {
        None => ("kubelet.yaml".into(), KUBELET_DEFAULTS.to_vec()),
        Some(path) => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
            (name, bytes)
        }
    };
    let (file, idle) = tiphys_kubelet::configuration::Settings::parse(&bytes)
        .with_context(|| format!("failed to load kubelet config file {name}"))?;
    if !idle.is_empty() {
        tracing::warn!(
            fields = idle.join(","),
            "fields of the kubelet's configuration that have no effect here"
        );
    }
    Ok(file)
}

/// Suffix of every version that this program tells.
pub fn build() -> String {
    format!("tiphys{}", env!("CARGO_PKG_VERSION"))
}

fn proxy_config(settings: &Settings) -> tiphys_proxy::Config {
    tiphys_proxy::Config {
        instance: super::proxy_instance(settings),
        node_name: settings.node_name.clone(),
        cluster_cidr: settings.cluster_cidr.clone(),
        answered_here: BTreeSet::from([settings.cluster_dns]),
        healthz: settings.proxy_healthz,
        metrics: settings.proxy_metrics,
    }
}

fn dns_config(settings: &Settings) -> tiphys_dns::Config {
    tiphys_dns::Config {
        listen: (settings.cluster_dns, 53).into(),
        domain: settings.cluster_domain.clone(),
        resolv_conf: RESOLV_CONF.into(),
        stub_domains: settings.dns_stub_domains.clone(),
    }
}

/// Waits until the node is Ready by the word of the kubelet of this very start: what an earlier one said is stored too, so
/// its lease must have been renewed since.
pub async fn ready(settings: &Settings, admin: Arc<dyn Client>, since: jiff::Timestamp) -> Result<()> {
    let informers = Informers::new(admin);
    let (nodes, leases) = (informers.of(&NODES), informers.scoped(&LEASES, LEASE_NAMESPACE, ""));
    let changed = Arc::new(Notify::new());
    for informer in [&nodes, &leases] {
        let tell = changed.clone();
        informer.on_change(Box::new(move |_, _| tell.notify_one()));
    }
    let holds = || {
        let node = nodes.get("", &settings.node_name).is_some_and(|node| is_ready(&node));
        let lease = leases.get(LEASE_NAMESPACE, &settings.node_name);
        node && lease.and_then(|lease| renewed(&lease)).is_some_and(|time| time >= since)
    };
    while !holds() {
        changed.notified().await;
    }
    Ok(())
}

fn renewed(lease: &Object) -> Option<jiff::Timestamp> {
    lease.value().ok()?.pointer("/spec/renewTime")?.as_str()?.parse().ok()
}

fn is_ready(node: &Object) -> bool {
    let conditions = node.value().ok().and_then(|n| n.pointer("/status/conditions").cloned());
    let all = conditions.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// A client from a kubeconfig.
pub async fn remote(kubeconfig: &Path) -> Result<Arc<dyn Client>> {
    let config = remote_config(kubeconfig)?;
    let client = RemoteClient::new(&config).with_context(|| unusable(kubeconfig))?;
    match client.refusal().await {
        Some(refusal) => Err(refusal).with_context(|| format!("{}: {}", unusable(kubeconfig), config.server)),
        None => Ok(Arc::new(client)),
    }
}

fn unusable(kubeconfig: &Path) -> String {
    format!("{} cannot be used; give another with --kubeconfig", kubeconfig.display())
}

/// What a kubeconfig says of its current context.
pub fn remote_config(kubeconfig: &Path) -> Result<tiphys_client::remote::Config> {
    let config = Kubeconfig::load(Some(kubeconfig)).with_context(|| unusable(kubeconfig))?;
    config.config(&Overrides::default()).with_context(|| unusable(kubeconfig))
}

/// The node's flags of a process without a node.
pub fn no_node() -> NodeFlags {
    NodeFlags {
        runtime_endpoint: None,
        kubelet_port: 0,
        kubelet_config: None,
        bridge: String::new(),
        proxy_healthz_address: cli::Listen(None),
        proxy_metrics_address: cli::Listen(None),
        stop_pods: false,
    }
}
