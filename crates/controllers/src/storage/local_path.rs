//! The built-in provisioner: a volume is a directory of the node on which its first pod runs. The default class.
//!
//! - A volume is a `hostPath` that the kubelet makes when a pod first mounts it, bound to its node by affinity: so any
//!   kubelet can use it.
//! - With the reclaim policy Delete, a pod of the cluster's own image removes the directory on its node, and only then does
//!   the volume go. A node that is gone takes its directories with it.
//! - [`plan`] and the objects it makes are pure; all progress can be read back from the API.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, Recorder, Target, WorkQueue, WriteOptions};

use super::{
    PROVISIONED_BY, PROVISIONERS, SELECTED_NODE, annotation, class_of_claim, volume_name, waits_for_pod,
};
use crate::context::{Context, Key, Outcome, ignore_not_found};

/// Name of this provisioner, as classes and volumes give it.
pub(crate) const PROVISIONER: &str = "tiphys.io/local-path";
/// The class that every cluster gets.
const CLASS: &str = "local-path";
/// Where the pods run that remove directories.
const NAMESPACE: &str = "kube-system";
/// Of the class's parameters: the directory below which volumes are made.
const PATH: &str = "path";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The cluster's own image has what it takes to remove a directory.
const IMAGE: &str = "tiphys.local/hello:1";
/// A pod that could not remove a directory is tried anew after this.
const AGAIN: Duration = Duration::from_secs(60);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Class,
    Claim(Key),
    Volume(Box<str>),
}

struct Provisioner {
    client: Arc<dyn Client>,
    recorder: Recorder,
    base: String,
    claims: Arc<Informer>,
    volumes: Arc<Informer>,
    classes: Arc<Informer>,
    nodes: Arc<Informer>,
    pods: Arc<Informer>,
}

/// Runs the provisioner until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("local-path-provisioner");
    let provisioner = Arc::new(Provisioner {
        recorder: context.recorder(&client, PROVISIONER),
        client,
        base: context.config.local_path.clone(),
        claims: context.informer(&PersistentVolumeClaim::GVR),
        volumes: context.informer(&PersistentVolume::GVR),
        classes: context.informer(&StorageClass::GVR),
        nodes: context.informer(&Node::GVR),
        pods: context.pods.informer().clone(),
    });
    let queue = WorkQueue::named("local_path_provisioner");
    follow(&provisioner, &queue);
    queue.add(Work::Class);
    let informers =
        [&provisioner.claims, &provisioner.volumes, &provisioner.classes, &provisioner.nodes].map(Arc::clone);
    let reconcile = move |work| {
        let provisioner = provisioner.clone();
        async move { provisioner.reconcile(work).await }
    };
    context.work(queue, 2, &informers.each_ref(), reconcile).await;
}

fn follow(provisioner: &Provisioner, queue: &Arc<WorkQueue<Work>>) {
    let to = queue.clone();
    provisioner.claims.on_change(Box::new(move |_, new| {
        if let Some(claim) = new {
            to.add(Work::Claim(Key::of(claim)));
        }
    }));
    let to = queue.clone();
    provisioner.volumes.on_change(Box::new(move |_, new| {
        if let Some(volume) = new {
            to.add(Work::Volume(volume.meta().name.clone()));
        }
    }));
    let to = queue.clone();
    provisioner.pods.on_change(Box::new(move |old, new| {
        // The name of such a pod is that of its volume, with a prefix.
        let Some(pod) = new.or(old).filter(|pod| *pod.meta().namespace == *NAMESPACE) else { return };
        if let Some(volume) = pod.meta().name.strip_prefix(REMOVER) {
            to.add(Work::Volume(volume.into()));
        }
    }));
}

/// Prefix of the names of pods that remove directories.
const REMOVER: &str = "remove-";

impl Provisioner {
    async fn reconcile(&self, work: Work) -> Outcome {
        match work {
            Work::Class => self.ensure_class().await.map(|()| None),
            Work::Claim(key) => self.provision(&key).await.map(|()| None),
            Work::Volume(name) => self.reclaim(&name).await,
        }
    }

    async fn ensure_class(&self) -> Result<(), Status> {
        if self.classes.get("", CLASS).is_some() {
            return Ok(());
        }
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {
                "name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete", "allowVolumeExpansion": true,
        });
        let target = Target::new(&StorageClass::GVR, "", CLASS);
        made(self.client.create(&target, class.to_string().into(), &WriteOptions::default()).await.map(drop))
    }

    async fn provision(&self, key: &Key) -> Result<(), Status> {
        let Some(object) = self.claims.get(&key.namespace, &key.name) else { return Ok(()) };
        let claim: PersistentVolumeClaim = decode(&object).map_err(Status::internal)?;
        let class = self.classes.get("", class_of_claim(&claim));
        let Some(class) = class.as_ref().map(decode::<StorageClass>).transpose().map_err(Status::internal)?
        else {
            return Ok(());
        };
        let node = annotation(&claim.metadata, SELECTED_NODE).and_then(|name| self.nodes.get("", name));
        let hostname = node.as_ref().and_then(|node| node.meta().labels.get(HOSTNAME));
        match volume_for(&claim, &class, &self.base, hostname) {
            Provision::Nothing => Ok(()),
            Provision::Cannot(why) => {
                self.recorder.event(&claim.reference(), "Warning", "ProvisioningFailed", why);
                Ok(())
            }
            Provision::Volume(volume) => {
                let name = volume["metadata"]["name"].as_str().unwrap_or_default();
                if self.volumes.get("", name).is_some() {
                    return Ok(());
                }
                let target = Target::new(&PersistentVolume::GVR, "", name);
                let body = volume.to_string().into();
                made(self.client.create(&target, body, &WriteOptions::default()).await.map(drop))?;
                let message = format!("Successfully provisioned volume {name}");
                self.recorder.event(&claim.reference(), "Normal", "ProvisioningSucceeded", message);
                Ok(())
            }
        }
    }

    async fn reclaim(&self, name: &str) -> Outcome {
        let Some(object) = self.volumes.get("", name) else { return Ok(None) };
        let volume: PersistentVolume = decode(&object).map_err(Status::internal)?;
        if !is_to_go(&volume) {
            return Ok(None);
        }
        let remover = format!("{REMOVER}{name}");
        let pods = Api::<Pod>::new(self.client.clone(), NAMESPACE);
        let node = node_of(&volume).unwrap_or_default();
        let phase = self.pods.get(NAMESPACE, &remover).map(|pod| phase(&pod));
        match phase.as_deref() {
            // There is nothing left to remove.
            _ if self.nodes.get("", &node).is_none() => {}
            Some("Succeeded") => {}
            None => {
                let Some(pod) = removing_pod(&volume, &remover, &node) else { return Ok(None) };
                let target = Target::new(&Pod::GVR, NAMESPACE, &remover);
                made(
                    self.client
                        .create(&target, pod.to_string().into(), &WriteOptions::default())
                        .await
                        .map(drop),
                )?;
                return Ok(None);
            }
            Some("Failed") => {
                let message = format!(
                    "its directory could not be removed, see pod {NAMESPACE}/{remover}; trying again"
                );
                self.recorder.event(&volume.reference(), "Warning", "VolumeFailedDelete", message);
                ignore_not_found(pods.delete(&remover, &DeleteOptions::default()).await)?;
                return Ok(Some(AGAIN));
            }
            Some(_) => return Ok(None),
        }
        let options = DeleteOptions { uid: Some(volume.uid().to_owned()), ..DeleteOptions::default() };
        ignore_not_found(Api::<PersistentVolume>::new(self.client.clone(), "").delete(name, &options).await)?;
        ignore_not_found(pods.delete(&remover, &DeleteOptions::default()).await)?;
        Ok(None)
    }
}

fn made(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.is("AlreadyExists") => Ok(()),
        other => other,
    }
}

fn phase(pod: &Object) -> String {
    let value = pod.value().unwrap_or_default();
    value["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

/// What a claim gets.
#[derive(Debug, PartialEq)]
pub(super) enum Provision {
    Nothing,
    Cannot(String),
    Volume(Value),
}

/// The volume for a claim that asks this provisioner for one. `hostname` is the label of the selected node, if it has one.
pub(super) fn volume_for(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    base: &str,
    hostname: Option<&str>,
) -> Provision {
    let asks = PROVISIONERS.iter().any(|key| annotation(&claim.metadata, key) == Some(PROVISIONER));
    let gone = claim.metadata.deletion_timestamp.is_some();
    if !asks || gone || class.provisioner != PROVISIONER || !volume_name(claim).is_empty() {
        return Provision::Nothing;
    }
    let Some(node) = annotation(&claim.metadata, SELECTED_NODE) else {
        return match waits_for_pod(class) {
            true => Provision::Nothing,
            false => Provision::Cannot(format!(
                "volumes of {PROVISIONER} belong to a node: its class must have the volumeBindingMode WaitForFirstConsumer"
            )),
        };
    };
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Provision::Cannot(format!("{PROVISIONER} makes no volumes of the mode Block"));
    }
    let base = class.parameters.as_ref().and_then(|all| all.get(PATH)).map_or(base, String::as_str);
    let name = format!("pvc-{}", claim.uid());
    let path = format!("{}/{name}_{}_{}", base.trim_end_matches('/'), claim.namespace(), claim.name());
    let on_node = json!({"key": HOSTNAME, "operator": "In", "values": [hostname.unwrap_or(node)]});
    Provision::Volume(json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {(PROVISIONED_BY): PROVISIONER, (SELECTED_NODE): node}},
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": {"storage": super::asked(claim).to_string()},
            "claimRef": claim.reference(),
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            "mountOptions": class.mount_options,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name(),
            "volumeMode": "Filesystem",
        },
    }))
}

/// A volume of ours that nobody has any more and nobody keeps.
fn is_to_go(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
        && super::volume_phase(volume) == "Released"
        && policy == Some("Delete")
}

fn node_of(volume: &PersistentVolume) -> Option<String> {
    annotation(&volume.metadata, SELECTED_NODE).map(str::to_owned)
}

/// A pod that removes a volume's directory, on its node. It mounts the directory above, for a mount cannot be removed.
fn removing_pod(volume: &PersistentVolume, name: &str, node: &str) -> Option<Value> {
    let path = volume.spec.as_ref()?.host_path.as_ref()?.path.clone();
    let (above, last) = path.rsplit_once('/')?;
    // Whatever a volume says, only a directory that bears its name is removed.
    let ours = last.starts_with(&format!("{}_", volume.name())) && !above.is_empty();
    ours.then(|| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "local-path"}},
            "spec": {
                "nodeName": node, "restartPolicy": "Never", "automountServiceAccountToken": false,
                "enableServiceLinks": false, "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": 120,
                "tolerations": [{"operator": "Exists"}], "priorityClassName": "system-node-critical",
                "containers": [{
                    "name": "remove", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/rm", format!("/volumes/{last}")],
                    "volumeMounts": [{"name": "volumes", "mountPath": "/volumes"}],
                }],
                "volumes": [{"name": "volumes", "hostPath": {"path": above, "type": "DirectoryOrCreate"}}],
            },
        })
    })
}
