//! What all pods of this kubelet share.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, ObjectReference, Pod, Secret, Service, Taint};
use parking_lot::Mutex;
use serde::Deserialize;
use tiphys_api::Gvr;
use tiphys_client::typed::{self, Kind};
use tiphys_client::{Client, Informer, Recorder};
use tiphys_runtime::Runtime;
use tokio::sync::{Notify, Semaphore, watch};

use crate::admit::{self, Host};
use crate::allocation::Ledger;
use crate::cgroups::Layout;
use crate::cgroups::weights::Weights;
use crate::dns::Names;
use crate::downward::Facts;
use crate::env::{Data, Lookup};
use crate::inotify::Watches;
use crate::node::machine::Machine;
use crate::server::access::Access;
use crate::sources::{Key, Sources};
use crate::stats::Stats;
use crate::status;
use crate::volumes::token::Tokens;
use crate::{Config, node, pod};

/// Shared by every actor.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) client: Arc<dyn Client>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) recorder: Recorder,
    pub(crate) sources: Sources,
    pub(crate) services: Arc<Informer>,
    pub(crate) tokens: Tokens,
    pub(crate) names: Names,
    pub(crate) node: status::Node,
    /// What containers without limits may use, by resource.
    pub(crate) allocatable: BTreeMap<String, String>,
    /// What of that is promised to which pod.
    pub(crate) ledger: Mutex<Ledger>,
    /// Counts the changes that may have made room for a pod that waits for more.
    pub(crate) room: watch::Sender<u64>,
    /// What the node is just now.
    pub(crate) now: Mutex<admit::Now>,
    /// Something of that is to be told without delay.
    pub(crate) hurry: Notify,
    /// Whether all pods that ran before have been told of, so that new ones may take what is left.
    pub(crate) admitting: watch::Sender<bool>,
    /// The node's own object.
    pub(crate) own: Arc<Informer>,
    /// The node's memory in bytes.
    pub(crate) memory: i64,
    /// Whether control groups are v2.
    pub(crate) unified: bool,
    /// Where they are.
    pub(crate) cgroups: Arc<Layout>,
    pub(crate) weights: Weights,
    pub(crate) machine: Machine,
    pub(crate) stats: Stats,
    /// What the kernel tells of changed files.
    pub(crate) watches: Arc<Watches>,
    pub(crate) access: Access,
    /// The images that volumes show, by the pod's uid and the volume's name: no container tells that they are used.
    pub(crate) shown_images: Mutex<HashMap<String, HashMap<String, String>>>,
    /// Removing what has ended is no hurry: one at a time, so that it never slows down starts and stops.
    pub(crate) removals: Semaphore,
    /// The pod of each container and sandbox, by identifier: where the runtime's events go.
    pub(crate) owners: Mutex<HashMap<String, String>>,
}

impl Context {
    /// Tells an event about a pod, or about one container of it.
    pub(crate) fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: &str,
        reason: &str,
        message: String,
    ) {
        let mut about = pod.reference();
        let container = container.filter(|name| !name.is_empty());
        about.field_path = container.map(|name| format!("spec.{}{{{name}}}", pod::role(pod, name).list()));
        self.recorder.event(&about, kind, reason, message);
    }

    /// The node as its object says, or else as it will be registered.
    pub(crate) fn host(&self) -> Host {
        #[derive(Deserialize)]
        struct Told {
            #[serde(default)]
            spec: Spec,
        }
        #[derive(Default, Deserialize)]
        struct Spec {
            #[serde(default)]
            taints: Vec<Taint>,
        }
        let name = self.config.node_name.clone();
        let Some(object) = self.own.get("", &name) else {
            let labels = node::labels(&self.config, &self.machine);
            return Host { name, labels, taints: self.config.taints.clone() };
        };
        let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let labels = object.meta().labels.iter().map(label).collect();
        let taints = object.decode::<Told>().map(|told| told.spec.taints).unwrap_or_default();
        Host { name, labels, taints }
    }

    /// The node, as events are about it.
    pub(crate) fn node_reference(&self) -> ObjectReference {
        let name = self.config.node_name.clone();
        ObjectReference {
            kind: Some(Node::GVK.kind.into_owned()),
            api_version: Some(Node::GVK.api_version()),
            // Events of nodes name them twice, as other kubelets do.
            uid: Some(name.clone()),
            name: Some(name),
            ..ObjectReference::default()
        }
    }

    /// The pod's own directory.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.root_dir.join("pods").join(uid)
    }

    pub(crate) fn facts(&self, ips: &[String]) -> Facts {
        Facts {
            ips: ips.to_vec(),
            host_ip: self.node.ip.to_string(),
            node: self.config.node_name.clone(),
            allocatable: self.allocatable.clone(),
        }
    }

    /// Remembers that a container or sandbox belongs to a pod.
    pub(crate) fn own(&self, id: &str, uid: &str) {
        self.owners.lock().insert(id.to_owned(), uid.to_owned());
    }

    /// Whether a container or sandbox is of a pod of this kubelet.
    pub(crate) fn owns(&self, id: &str) -> bool {
        self.owners.lock().contains_key(id)
    }

    /// Keys and values of a ConfigMap.
    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<(Data, u64), String> {
        let Some(object) = self.source(&ConfigMap::GVR, namespace, name).await? else { return Ok((None, 0)) };
        let map: ConfigMap = typed::decode(&object).map_err(|e| e.to_string())?;
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Ok((Some(text.chain(binary).collect()), object.meta().resource_version))
    }

    /// Keys and values of a Secret.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<(Data, u64), String> {
        let Some(object) = self.source(&Secret::GVR, namespace, name).await? else { return Ok((None, 0)) };
        let secret: Secret = typed::decode(&object).map_err(|e| e.to_string())?;
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Ok((Some(data.collect()), object.meta().resource_version))
    }

    async fn source(
        &self,
        gvr: &Gvr,
        namespace: &str,
        name: &str,
    ) -> Result<Option<tiphys_api::Object>, String> {
        let key: Key = (gvr.clone(), namespace.to_owned(), name.to_owned());
        self.sources.get(&key).await.map_err(|status| status.message)
    }

    /// Fetches what an environment refers to.
    pub(crate) async fn lookup(
        &self,
        namespace: &str,
        names: (Vec<String>, Vec<String>),
    ) -> Result<Lookup, String> {
        let mut lookup = Lookup::default();
        for name in names.0 {
            let (data, _) = self.config_map(namespace, &name).await?;
            lookup.config_maps.insert(name, data);
        }
        for name in names.1 {
            let (data, _) = self.secret(namespace, &name).await?;
            lookup.secrets.insert(name, data);
        }
        Ok(lookup)
    }

    /// The services whose addresses a pod's environment tells: those of its namespace, and the API's.
    pub(crate) fn services_for(&self, pod: &Pod) -> Vec<Service> {
        let links = pod::spec(pod).enable_service_links != Some(false);
        let own = if links { self.services.list(pod::namespace(pod)) } else { Vec::new() };
        let api = self.services.get("default", "kubernetes");
        let api = api.filter(|_| !links || pod::namespace(pod) != "default");
        let decoded = api.iter().chain(&own).filter_map(|object| typed::decode::<Service>(object).ok());
        let has_address = |service: &Service| {
            let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
            ip.is_some_and(|ip| !ip.is_empty() && ip != "None")
        };
        decoded.filter(has_address).collect()
    }
}
