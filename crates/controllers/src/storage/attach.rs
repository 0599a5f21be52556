//! Attachment of CSI volumes: the bookkeeping between pods on nodes and the drivers' attachers.
//!
//! - A pod bound to a node that uses a volume of a driver which attaches gets a VolumeAttachment; the driver's own attacher
//!   does the rest and says so in its status. Once no pod on the node needs the volume, the attachment goes.
//! - The node's status tells what is attached, as kubelets wait for that.
//! - Kubernetes has no drivers of its own any more, so that nothing else is ever attached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Client, DeleteOptions, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use super::volume_name;
use crate::context::{Context, Outcome, ignore_not_found};
use crate::pods::{Facts, Pods};

struct Controller {
    client: Arc<dyn Client>,
    pods: Arc<Pods>,
    claims: Arc<Informer>,
    volumes: Arc<Informer>,
    drivers: Arc<Informer>,
    attachments: Arc<Informer>,
    nodes: Arc<Informer>,
}

/// A volume that is to be attached to a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    volume: String,
    driver: String,
    handle: String,
}

/// An attachment, as far as it decides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Option<Attached>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    attacher: String,
    node_name: String,
    source: Source,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    persistent_volume_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Attached {
    attached: bool,
}

/// Runs the controller until the context stops. A key is a node.
pub(crate) async fn run(context: Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client("attachdetach-controller"),
        pods: context.pods.clone(),
        claims: context.informer(&PersistentVolumeClaim::GVR),
        volumes: context.informer(&PersistentVolume::GVR),
        drivers: context.informer(&CSIDriver::GVR),
        attachments: context.informer(&VolumeAttachment::GVR),
        nodes: context.informer(&Node::GVR),
    });
    let queue = WorkQueue::named("volume_attachments");
    follow(&controller, &queue);
    let informers = [
        &controller.claims,
        &controller.volumes,
        &controller.drivers,
        &controller.attachments,
        &controller.nodes,
    ];
    let informers = informers.map(Arc::clone);
    let reconcile = move |node: Box<str>| {
        let controller = controller.clone();
        async move { controller.reconcile(&node).await }
    };
    context.pods.informer().synced().await;
    context.work(queue, 2, &informers.each_ref(), reconcile).await;
}

fn follow(controller: &Arc<Controller>, queue: &Arc<WorkQueue<Box<str>>>) {
    let (weak, to) = (Arc::downgrade(controller), queue.clone());
    controller.pods.informer().on_change(Box::new(move |old, new| {
        let Some(controller) = weak.upgrade() else { return };
        // Without a driver or an attachment there is nothing to do for any pod.
        if controller.drivers.is_empty() && controller.attachments.is_empty() {
            return;
        }
        let Some(pod) = new.or(old).and_then(Facts::of) else { return };
        if !pod.node.is_empty() && !pod.claims.is_empty() {
            to.add(pod.node);
        }
    }));
    let to = queue.clone();
    controller.attachments.on_change(Box::new(move |old, new| {
        if let Some(view) = new.or(old).and_then(|object| object.decode::<View>().ok()) {
            to.add(view.spec.node_name.into());
        }
    }));
    let (weak, to) = (Arc::downgrade(controller), queue.clone());
    let all = move |_: Option<&Object>, new: Option<&Object>| {
        let (Some(controller), Some(_)) = (weak.upgrade(), new) else { return };
        controller.nodes.list("").iter().for_each(|node| to.add(node.meta().name.clone()));
    };
    controller.drivers.on_change(Box::new(all));
}

impl Controller {
    async fn reconcile(&self, node: &str) -> Outcome {
        let wanted = self.wanted(node);
        let mut present = BTreeMap::new();
        for object in self.attachments.list("") {
            let Ok(view) = object.decode::<View>() else { continue };
            if view.spec.node_name == node {
                present.insert(object.meta().name.to_string(), (object, view));
            }
        }
        for one in &wanted {
            let name = name(one, node);
            if !present.contains_key(&name) {
                self.attach(&name, one, node).await?;
            }
        }
        let kept: BTreeSet<String> = wanted.iter().map(|one| name(one, node)).collect();
        for (object, view) in present.values() {
            let ours = view.spec.source.persistent_volume_name.is_some() && object.meta().deleted.is_none();
            if ours && !kept.contains(&*object.meta().name) {
                let target = Target::new(&VolumeAttachment::GVR, "", &object.meta().name);
                ignore_not_found(self.client.delete(&target, &DeleteOptions::default()).await.map(drop))?;
            }
        }
        self.report(node, present.values().map(|(_, view)| view)).await.map(|()| None)
    }

    /// What the pods of a node need attached.
    fn wanted(&self, node: &str) -> BTreeSet<Wanted> {
        let pods = self.pods.on_node(node);
        let living = pods.iter().filter(|pod| !pod.ended());
        let claims = living.flat_map(|pod| pod.claims.iter().map(|claim| (&pod.meta().namespace, claim)));
        claims.filter_map(|(namespace, claim)| self.volume_of(namespace, claim)).collect()
    }

    fn volume_of(&self, namespace: &str, claim: &str) -> Option<Wanted> {
        let claim: PersistentVolumeClaim = decode(&self.claims.get(namespace, claim)?).ok()?;
        let volume: PersistentVolume = decode(&self.volumes.get("", volume_name(&claim))?).ok()?;
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        let driver = self.drivers.get("", &csi.driver).and_then(|driver| decode::<CSIDriver>(&driver).ok());
        // A driver that says nothing attaches.
        let attaches = driver.is_none_or(|driver| driver.spec.attach_required != Some(false));
        let (driver, handle) = (csi.driver.clone(), csi.volume_handle.clone());
        attaches.then(|| Wanted { volume: volume.name().to_owned(), driver, handle })
    }

    async fn attach(&self, name: &str, one: &Wanted, node: &str) -> Result<(), Status> {
        let attachment = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
            "spec": {
                "attacher": one.driver, "nodeName": node, "source": {"persistentVolumeName": one.volume},
            },
        });
        let target = Target::new(&VolumeAttachment::GVR, "", name);
        match self.client.create(&target, attachment.to_string().into(), &WriteOptions::default()).await {
            Err(status) if status.is("AlreadyExists") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Tells in the node's status what is attached.
    async fn report<'v>(&self, node: &str, present: impl Iterator<Item = &'v View>) -> Result<(), Status> {
        let Some(object) = self.nodes.get("", node) else { return Ok(()) };
        let attached = present.filter(|view| view.status.as_ref().is_some_and(|status| status.attached));
        let mut names: Vec<String> = attached.filter_map(|view| self.unique_name(view)).collect();
        names.sort();
        names.dedup();
        let wanted: Vec<Value> =
            names.into_iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let value = object.value().map_err(Status::internal)?;
        let known = value["status"]["volumesAttached"].as_array().cloned().unwrap_or_default();
        if known == wanted {
            return Ok(());
        }
        let patch = json!({"status": {"volumesAttached": if wanted.is_empty() { Value::Null } else { wanted.into() }}});
        let target = Target::new(&Node::GVR, "", node).sub("status");
        let body = patch.to_string().into();
        ignore_not_found(
            self.client.patch(&target, PatchKind::Merge, body, &WriteOptions::default()).await.map(drop),
        )
    }

    fn unique_name(&self, view: &View) -> Option<String> {
        let volume = self.volumes.get("", view.spec.source.persistent_volume_name.as_deref()?)?;
        let volume: PersistentVolume = decode(&volume).ok()?;
        let handle = volume.spec?.csi?.volume_handle;
        Some(format!("kubernetes.io/csi/{}^{handle}", view.spec.attacher))
    }
}

/// The name of an attachment: the same for the same volume, driver and node.
fn name(one: &Wanted, node: &str) -> String {
    // Kubelets and attachers work it out themselves.
    let digest = Sha256::digest(format!("{}{}{node}", one.handle, one.driver));
    digest.iter().fold("csi-".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}
