//! Storage: claims and volumes bound to each other, kept while they are in use, made, grown and removed.
//!
//! - [`binder`] is Kubernetes' persistent-volume controller. Volumes that others provision are asked of them by an
//!   annotation, as Kubernetes does since it has no drivers of its own.
//! - [`local_path`] is one such provisioner, built in: directories of the nodes, and the default class of a cluster.
//! - [`protection`] keeps what is in use, [`ephemeral`] makes pods' own claims, [`expand`] lets volumes grow, [`attach`]
//!   asks CSI drivers to attach volumes to nodes.

pub(crate) mod attach;
pub(crate) mod binder;
pub(crate) mod ephemeral;
pub(crate) mod expand;
pub(crate) mod local_path;
pub(crate) mod protection;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tiphys_api::quantity::Quantity;

/// A claim or volume is bound for good.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The controller chose the other side; people did not.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Who made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Who shall make a claim's volume: the present name, and the old one that some provisioners still read.
const PROVISIONERS: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// The node that the scheduler chose for a claim's first pod.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn annotation<'m>(meta: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn annotate(meta: &mut ObjectMeta, key: &str, value: &str) {
    meta.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
}

/// The class a claim names; empty for none.
fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, OLD_CLASS).or(named).unwrap_or_default()
}

/// The class of a volume; empty for none.
fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, OLD_CLASS).or(named).unwrap_or_default()
}

/// Whether volumes of a class are bound when a pod first needs them.
fn waits_for_pod(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// How much a claim asks for.
fn asked(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let text = resources.and_then(|resources| resources.requests.as_ref()?.get("storage"));
    text.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

/// How much a volume holds.
fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The volume a claim names; empty for none.
fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}
