//! Who a StatefulSet's pods are: names by ordinal, their claims, and pods and claims made from the templates. Pure.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume,
};
use tiphys_api::Status;
use tiphys_client::typed::Kind;

use crate::history::REVISION_LABEL;
use crate::pod_control::pod_body;
use crate::pods::Facts;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub(super) fn spec(set: &StatefulSet) -> StatefulSetSpec {
    set.spec.clone().unwrap_or_default()
}

pub(super) fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name())
}

/// The ordinal of a pod with a name of the set's.
pub(super) fn ordinal(set: &StatefulSet, pod: &Facts) -> Option<i32> {
    let digits = pod.meta().name.strip_prefix(set.name())?.strip_prefix('-')?;
    let number: i32 = digits.parse().ok()?;
    (number >= 0 && number.to_string() == digits).then_some(number)
}

/// The revision that a pod was made from.
pub(super) fn revision(pod: &Arc<Facts>) -> &str {
    pod.meta().labels.get(REVISION_LABEL).unwrap_or_default()
}

/// The ordinals that a set is to have.
pub(super) fn range(set: &StatefulSet) -> Range<i32> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
    start..start.saturating_add(spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0))
}

/// The names of one pod's claims.
pub(super) fn claim_names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> + '_ {
    let templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    templates.map(move |template| claim_name(set, template.name(), ordinal))
}

/// The claims of one pod.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let spec = spec(set);
    let labels = spec.selector.match_labels.clone();
    let retention = spec.persistent_volume_claim_retention_policy.as_ref();
    let goes_with_set = retention.and_then(|policy| policy.when_deleted.as_deref()) == Some("Delete");
    let templates = spec.volume_claim_templates.unwrap_or_default();
    let claim = |mut claim: PersistentVolumeClaim| {
        let name = claim_name(set, claim.name(), ordinal);
        claim.metadata.name = Some(name);
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        if let Some(labels) = &labels {
            claim.metadata.labels.get_or_insert_default().extend(labels.clone());
        }
        claim.metadata.owner_references = goes_with_set.then(|| vec![set.controller_reference()]);
        claim.status = None;
        claim
    };
    templates.into_iter().map(claim).collect()
}

fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name())
}

/// The pod of an ordinal, from the template of a revision.
pub(super) fn pod(set: &StatefulSet, ordinal: i32, revision: &ControllerRevision) -> Result<Bytes, Status> {
    let mut template = template(revision)?;
    let name = name(set, ordinal);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name.clone());
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    labels.insert(REVISION_LABEL.into(), revision.name().to_owned());
    let all = spec(set);
    let pod = template.spec.get_or_insert_default();
    pod.hostname = Some(name.clone());
    pod.subdomain = all.service_name.clone();
    let templates = all.volume_claim_templates.unwrap_or_default();
    let volumes = pod.volumes.get_or_insert_default();
    for claim in &templates {
        volumes.retain(|volume| volume.name != claim.name());
        let source = PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, claim.name(), ordinal),
            read_only: Some(false),
        };
        volumes.push(Volume {
            name: claim.name().to_owned(),
            persistent_volume_claim: Some(source),
            ..Volume::default()
        });
    }
    pod_body(set, template, Some(&name))
}

fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Status> {
    let data = revision.data.as_ref().map(|data| data.0.clone()).unwrap_or_default();
    serde_json::from_value(data["spec"]["template"].clone()).map_err(Status::internal)
}
