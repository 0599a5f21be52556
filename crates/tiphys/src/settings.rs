//! What a cluster made of its flags, and where it keeps things. Written to the data directory before the host is
//! touched, so that `stop`, `reset` and `image` know what a start did, even a killed one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tiphys_network::Network;
use tiphys_network::address::{Range, node_address};
use tiphys_runtime::containerd;

use crate::applets::image::PAUSE;
use crate::cli::{Cluster, NodeFlags, Place};

/// Bits of a node's part of the pod range.
const NODE_RANGE_BITS: u8 = 24;

/// A cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Directory of everything else.
    pub data_dir: PathBuf,
    /// Name of the node.
    pub node_name: String,
    /// Address of the node.
    pub node_ip: IpAddr,
    /// Where the API server listens.
    pub bind_address: IpAddr,
    /// Port of the API server.
    pub https_port: u16,
    /// Port of the kubelet.
    pub kubelet_port: u16,
    /// Bridge of the pods.
    pub bridge: String,
    /// Range of all pods.
    pub cluster_cidr: String,
    /// Range of this node's pods.
    pub pod_cidr: String,
    /// Range of Services.
    pub service_cidr: String,
    /// Address of cluster DNS.
    pub cluster_dns: Ipv4Addr,
    /// Domain of the cluster.
    pub cluster_domain: String,
    /// Domains with resolvers of their own.
    #[serde(default)]
    pub dns_stub_domains: Vec<tiphys_dns::StubDomain>,
    /// Admin kubeconfig.
    pub kubeconfig: PathBuf,
    /// Kubeconfig that a context was merged into, if any.
    pub merged_into: Option<PathBuf>,
    /// Socket of a runtime that is not ours, if any.
    pub runtime_endpoint: Option<String>,
    /// The kubelet's own configuration file, if any.
    #[serde(default)]
    pub kubelet_config: Option<PathBuf>,
    /// Where the proxy tells whether it keeps up, if anywhere.
    #[serde(default)]
    pub proxy_healthz: Option<SocketAddr>,
    /// Where the proxy tells its figures, if anywhere.
    #[serde(default)]
    pub proxy_metrics: Option<SocketAddr>,
}

impl Settings {
    /// Works out the settings of `up` and `server`.
    pub fn new(cluster: &Cluster, node: &NodeFlags) -> Result<Self> {
        Ok(Self {
            bind_address: cluster.bind_address,
            https_port: cluster.https_port,
            kubeconfig: std::path::absolute(&cluster.kubeconfig)?,
            merged_into: (!cluster.no_merge).then(home_kubeconfig).flatten(),
            ..Self::of_node(&cluster.place, node)?
        })
    }

    /// Works out the settings of a node without a master. What concerns only the API server stays empty.
    pub fn of_node(place: &Place, node: &NodeFlags) -> Result<Self> {
        let services = &place.service_cidr;
        let range = Range::parse(services)?;
        let tenth = || range.at(10).with_context(|| format!("--service-cidr {services} is too small"));
        let pod_cidr = Range::parse(&place.cluster_cidr)?.part(0, NODE_RANGE_BITS);
        Ok(Self {
            data_dir: std::path::absolute(&place.data_dir)?,
            node_name: place.node_name.clone().unwrap_or_else(crate::host::node_name),
            node_ip: place.node_ip.map_or_else(node_address, |ip| Ok(ip.into()))?,
            bind_address: Ipv4Addr::UNSPECIFIED.into(),
            https_port: 0,
            kubelet_port: node.kubelet_port,
            bridge: node.bridge.clone(),
            cluster_cidr: place.cluster_cidr.clone(),
            // A range of fewer than 256 addresses is the one node's whole range.
            pod_cidr: pod_cidr.unwrap_or_else(|| place.cluster_cidr.clone()),
            service_cidr: services.clone(),
            cluster_dns: place.cluster_dns.map_or_else(tenth, Ok)?,
            cluster_domain: place.cluster_domain.clone(),
            dns_stub_domains: place.dns_stub_domain.clone(),
            kubeconfig: PathBuf::new(),
            merged_into: None,
            runtime_endpoint: node.runtime_endpoint.clone(),
            kubelet_config: node.kubelet_config.as_deref().map(std::path::absolute).transpose()?,
            proxy_healthz: node.proxy_healthz_address.0,
            proxy_metrics: node.proxy_metrics_address.0,
        })
    }

    /// Reads what an earlier start wrote; `None` where none did.
    pub fn load(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join(NAME);
        match std::fs::read(&path) {
            Ok(json) => {
                let settings = serde_json::from_slice(&json)
                    .with_context(|| format!("{} is damaged", path.display()))?;
                Ok(Some(settings))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes them, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let path = self.data_dir.join(NAME);
        let fresh = self.data_dir.join("settings.json.new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The containerd of this cluster.
    pub fn containerd(&self) -> Result<containerd::Config> {
        Ok(containerd::Config {
            dir: self.data_dir.join("containerd"),
            cni_bin_dir: containerd::find_cni_plugins()
                .context("the CNI plugins are missing; install containernetworking-plugins")?,
            cni_conf_dir: self.data_dir.join("cni/conf"),
            cni_state_dir: self.data_dir.join("cni/state"),
            sandbox_image: PAUSE.into(),
            log_file: self.data_dir.join("log/containerd.log"),
            restrict_oom_score: !containerd::may_lower_oom_score(),
        })
    }

    /// The pod network of this cluster's node.
    pub fn network(&self) -> Network {
        Network {
            bridge: self.bridge.clone(),
            pod_cidr: self.pod_cidr.clone(),
            cluster_cidr: self.cluster_cidr.clone(),
            conf_dir: self.data_dir.join("cni/conf"),
            state_dir: self.data_dir.join("cni/state"),
            own_addresses: vec![self.cluster_dns],
        }
    }

    /// Whether there is a node beside the master.
    pub fn has_node(&self) -> bool {
        !self.bridge.is_empty()
    }

    /// Where the kubelet keeps its pods' directories.
    pub fn kubelet_dir(&self) -> PathBuf {
        self.data_dir.join("kubelet")
    }

    /// Where clients on this machine reach the API server.
    pub fn server_url(&self) -> String {
        let address =
            if self.bind_address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { self.bind_address };
        format!("https://{}", std::net::SocketAddr::new(address, self.https_port))
    }

    /// Socket of the container runtime.
    pub fn runtime_socket(&self) -> Result<PathBuf> {
        match &self.runtime_endpoint {
            Some(endpoint) => socket_path(endpoint),
            None => Ok(self.containerd()?.socket()),
        }
    }
}

const NAME: &str = "settings.json";

/// The path in `unix:///run/…`.
pub fn socket_path(endpoint: &str) -> Result<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    anyhow::ensure!(
        path.starts_with('/'),
        "--runtime-endpoint {endpoint:?} must look like unix:///run/containerd.sock"
    );
    Ok(path.into())
}

/// `~/.kube/config`, or nowhere where there is no home.
fn home_kubeconfig() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"))
}
