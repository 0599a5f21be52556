//! The claims of waiting pods: where their volumes can be reached, and what is still to be bound once a node is chosen.
//!
//! - A bound claim ties its pod to nodes that reach the volume. A claim of a class that waits for its first pod is bound
//!   after the decision: a free volume of the chosen node is reserved for it, or its provisioner is told the node.
//! - [`Needs`] are read from the caches at each decision and judged by the plugin
//!   [`VolumeBinding`](crate::plugins); the writes are [`Volumes::prepare`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{self as core, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use parking_lot::Mutex;
use tiphys_api::quantity::Quantity;
use tiphys_api::{Object, Status, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, Informers, PatchKind};
use tokio::sync::watch;

use crate::node::Facts;
use crate::plugins::matches_any;
use crate::pod::Pod;

/// How long a pod waits for its volumes after the decision, as kube-scheduler does.
const BIND_WITHIN: Duration = Duration::from_secs(600);
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What a pod's volumes ask of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Whom each bound volume can be reached from.
    pub affinities: Vec<core::NodeSelector>,
    /// The node that was chosen for another pod of the same claims a moment ago.
    pub node: Option<Box<str>>,
    /// Claims that are bound after the decision.
    pub unbound: Vec<Unbound>,
}

/// A claim that waits for its first pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Unbound {
    /// `namespace/name`.
    pub key: String,
    /// Whether a volume can be made on any node.
    pub provisioned: bool,
    /// Free volumes that suit it, the smallest first.
    pub free: Vec<PersistentVolume>,
}

impl Unbound {
    /// The free volume that a node gets for it.
    pub fn free_on(&self, node: &Facts) -> Option<&PersistentVolume> {
        self.free.iter().find(|volume| affinity(volume).is_none_or(|required| matches_any(&required, node)))
    }
}

/// Claims, volumes and classes, as the caches hold them.
pub struct Volumes {
    client: Arc<dyn Client>,
    claims: Arc<Informer>,
    volumes: Arc<Informer>,
    classes: Arc<Informer>,
    /// Nodes of claims whose volumes are on their way.
    chosen: Mutex<HashMap<String, Box<str>>>,
    changed: watch::Receiver<()>,
}

impl Volumes {
    /// Follows them; `news` is called at every change.
    pub fn new(informers: &Informers, news: impl Fn() + Send + Sync + 'static) -> Self {
        let claims = informers.of(&PersistentVolumeClaim::GVR);
        let volumes = informers.of(&PersistentVolume::GVR);
        let classes = informers.of(&StorageClass::GVR);
        let (tell, changed) = watch::channel(());
        let (tell, news) = (Arc::new(tell), Arc::new(news));
        for informer in [&claims, &volumes, &classes] {
            let (tell, news) = (tell.clone(), news.clone());
            informer.on_change(Box::new(move |_, _| {
                tell.send_replace(());
                news();
            }));
        }
        let client = informers.client().clone();
        Self { client, claims, volumes, classes, chosen: Mutex::default(), changed }
    }

    /// Waits until the caches are complete.
    pub async fn synced(&self) {
        for informer in [&self.claims, &self.volumes, &self.classes] {
            informer.synced().await;
        }
    }

    /// What a pod's volumes ask for, or why they cannot be had on any node.
    pub fn needs(&self, pod: &Pod) -> Result<Needs, String> {
        let mut needs = Needs::default();
        for name in pod.wishes.iter().flat_map(|wishes| &wishes.claims) {
            let missing = || format!("persistentvolumeclaim {name:?} not found");
            let claim = self.claims.get(&pod.namespace, name).ok_or_else(missing)?;
            if claim.meta().deleted.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            let claim: PersistentVolumeClaim = decode(&claim).map_err(|error| error.to_string())?;
            match bound_volume(&claim) {
                Some(volume) => needs.affinities.extend(self.affinity_of(volume)?),
                None => self.unbound(&claim, &mut needs)?,
            }
        }
        Ok(needs)
    }

    fn affinity_of(&self, volume: &str) -> Result<Option<core::NodeSelector>, String> {
        let missing = || format!("persistentvolume {volume:?} not found");
        let volume = self.volumes.get("", volume).ok_or_else(missing)?;
        Ok(affinity(&decode(&volume).map_err(|error| error.to_string())?))
    }

    fn unbound(&self, claim: &PersistentVolumeClaim, needs: &mut Needs) -> Result<(), String> {
        let name = class_of(claim);
        let class = self.classes.get("", name).and_then(|class| decode::<StorageClass>(&class).ok());
        let waits =
            |class: &&StorageClass| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        let Some(class) = class.as_ref().filter(waits) else {
            return Err("pod has unbound immediate PersistentVolumeClaims".into());
        };
        let key = key(claim);
        if let Some(node) = self.chosen.lock().get(&key) {
            needs.node = Some(node.clone());
        }
        let provisioned = class.provisioner != NO_PROVISIONER;
        needs.unbound.push(Unbound { key, provisioned, free: self.free(claim) });
        Ok(())
    }

    fn free(&self, claim: &PersistentVolumeClaim) -> Vec<PersistentVolume> {
        let free =
            self.volumes.list("").into_iter().filter_map(|volume| decode::<PersistentVolume>(&volume).ok());
        let mut free: Vec<PersistentVolume> = free.filter(|volume| suits(volume, claim)).collect();
        free.sort_by(|a, b| size(a).cmp(&size(b)).then_with(|| a.name().cmp(b.name())));
        free
    }

    /// Notes the node of claims that are to be bound.
    pub fn choose(&self, needs: &Needs, node: &str) {
        let mut chosen = self.chosen.lock();
        chosen.extend(needs.unbound.iter().map(|claim| (claim.key.clone(), node.into())));
    }

    /// Binds a pod's claims for the chosen node, and waits until they are.
    pub async fn prepare(&self, needs: &Needs, node: &Facts) -> Result<(), Status> {
        let bound = async {
            for claim in &needs.unbound {
                self.ask(claim, node).await?;
            }
            self.all_bound(needs).await;
            Ok(())
        };
        let late = || Status::timeout("binding volumes: timed out waiting for the condition");
        let result = tokio::time::timeout(BIND_WITHIN, bound).await.unwrap_or_else(|_| Err(late()));
        let mut chosen = self.chosen.lock();
        needs.unbound.iter().for_each(|claim| drop(chosen.remove(&claim.key)));
        result
    }

    async fn ask(&self, unbound: &Unbound, node: &Facts) -> Result<(), Status> {
        let (namespace, name) = unbound.key.split_once('/').unwrap_or_default();
        let claim = self.claims.get(namespace, name);
        let Some(claim) = claim else { return Err(Status::not_found(&PersistentVolumeClaim::GVR, name)) };
        if let Some(volume) = unbound.free_on(node) {
            let claim: PersistentVolumeClaim = decode(&claim).map_err(Status::internal)?;
            let mut reserved = volume.clone();
            reserved.spec.get_or_insert_default().claim_ref = Some(claim.reference());
            let annotations = reserved.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
            return Api::<PersistentVolume>::new(self.client.clone(), "").update(&reserved).await.map(drop);
        }
        let patch = json!({"metadata": {
            "annotations": {(SELECTED_NODE): &*node.name}, "uid": claim.meta().uid,
        }});
        let api = Api::<PersistentVolumeClaim>::new(self.client.clone(), namespace);
        api.patch(name, PatchKind::Merge, &patch).await.map(drop)
    }

    async fn all_bound(&self, needs: &Needs) {
        let mut changed = self.changed.clone();
        let bound = |claim: &Unbound| {
            let (namespace, name) = claim.key.split_once('/').unwrap_or_default();
            let claim = self.claims.get(namespace, name);
            let claim = claim.and_then(|claim: Object| decode::<PersistentVolumeClaim>(&claim).ok());
            claim.is_some_and(|claim| bound_volume(&claim).is_some())
        };
        loop {
            changed.borrow_and_update();
            if needs.unbound.iter().all(bound) {
                return;
            }
            if changed.changed().await.is_err() {
                // The caches have ended: so do we.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn key(claim: &PersistentVolumeClaim) -> String {
    format!("{}/{}", claim.namespace(), claim.name())
}

/// The volume of a claim that is bound for good.
fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let completed = claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BIND_COMPLETED));
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| completed && !name.is_empty())
}

fn class_of(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

fn affinity(volume: &PersistentVolume) -> Option<core::NodeSelector> {
    volume.spec.as_ref()?.node_affinity.as_ref()?.required.clone()
}

fn size(volume: &PersistentVolume) -> Quantity {
    let size = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    size.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

/// Whether a volume is free and offers what a claim asks for.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offers), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    let wanted = asks.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage"));
    let wanted: Quantity = wanted.and_then(|text| text.0.parse().ok()).unwrap_or_default();
    let available = volume.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Available"));
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let has = |wanted: &String| offers.access_modes.iter().flatten().any(|mode| mode == wanted);
    available
        && offers.claim_ref.is_none()
        && volume.metadata.deletion_timestamp.is_none()
        && offers.storage_class_name.as_deref().unwrap_or_default() == class_of(claim)
        && mode(&offers.volume_mode) == mode(&asks.volume_mode)
        && asks.access_modes.iter().flatten().all(has)
        && asks.selector.is_none()
        && size(volume) >= wanted
}
