//! Which ReplicaSet is the Deployment's newest, what a new one looks like, and the revisions they carry.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tiphys_client::typed::Kind;

use super::view::{DESIRED, HASH_LABEL, MAX, Numbers, REVISION, REVISION_HISTORY, annotation, number};
use crate::hash;

/// Annotations of the Deployment that its sets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Longest text of old revisions that a set carries.
const HISTORY_MAX: usize = 2000;

/// The set with the Deployment's template: the oldest, if several have it. `sets` are in order of creation.
pub(super) fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    let template = deployment.spec.as_ref().map(|spec| without_hash(&spec.template))?;
    sets.iter().position(|set| {
        let theirs = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        theirs.is_some_and(|theirs| without_hash(theirs) == template)
    })
}

/// Whether a set has the Deployment's template.
pub(super) fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    find_new(deployment, std::slice::from_ref(set)).is_some()
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
    }
    metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
    metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
    template
}

/// The highest revision among sets.
pub(super) fn highest<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> i64 {
    sets.filter_map(|set| number(set, REVISION)).max().unwrap_or(0)
}

/// A set for the Deployment's template, without replicas yet.
pub(super) fn new_set(deployment: &Deployment, numbers: &Numbers, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::of(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![deployment.controller_reference()]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(deployment, &mut set, revision, false);
    annotate_replicas(&mut set, numbers);
    set
}

/// Gives the newest set the Deployment's annotations and its revision. Returns whether it changed.
pub(super) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64, exists: bool) -> bool {
    let before = set.metadata.annotations.clone();
    let old = annotation(set, REVISION).map(str::to_owned);
    let history = annotation(set, REVISION_HISTORY).map(str::to_owned);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if old.as_ref().and_then(|old| old.parse().ok()).unwrap_or(0) < revision {
        annotations.insert(REVISION.into(), revision.to_string());
        if let (Some(old), true) = (old, exists) {
            annotations.insert(REVISION_HISTORY.into(), lengthen(history, &old));
        }
    }
    before != set.metadata.annotations
}

/// Appends to the comma-separated history, which loses its oldest entries when too long.
fn lengthen(history: Option<String>, revision: &str) -> String {
    let Some(mut history) = history.filter(|text| !text.is_empty()) else { return revision.to_owned() };
    while history.len() + 1 + revision.len() > HISTORY_MAX {
        match history.split_once(',') {
            Some((_, newer)) => history = newer.to_owned(),
            None => return revision.to_owned(),
        }
    }
    format!("{history},{revision}")
}

/// Notes the Deployment's size on a set, for proportional scaling. Returns whether it changed.
pub(super) fn annotate_replicas(set: &mut ReplicaSet, numbers: &Numbers) -> bool {
    let annotations: &mut BTreeMap<String, String> = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (name, value) in [(DESIRED, numbers.replicas), (MAX, numbers.replicas + numbers.max_surge)] {
        let value = value.to_string();
        changed |= annotations.insert(name.into(), value.clone()) != Some(value);
    }
    changed
}
