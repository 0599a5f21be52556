//! Definitions of custom resources: which versions objects were ever stored in, and an end that waits for the objects.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::{Value, json, structural};

use super::Rules;
use crate::auth::User;
use crate::custom::rules;
use crate::registry::tree;

/// Stands for the objects that go before their definition does.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Groups of Kubernetes' own community.
const PROTECTED: [&str; 2] = ["k8s.io", "kubernetes.io"];
/// Says who has approved a definition in such a group.
pub const APPROVED: &str = "api-approved.kubernetes.io";

pub(super) const DEFINITIONS: Rules = Rules {
    generation: true,
    unconditional_update: false,
    holds: Some(CLEANUP),
    on_create,
    on_update,
    on_delete,
    validate: expressions,
    validate_create: approved,
    validate_update,
    ..Rules::DEFAULT
};

fn on_create(definition: &mut Value, _: &User) {
    let stored = storage_version(definition).to_owned();
    tree::set(definition, &["status"], json!({ "storedVersions": [stored] }));
}

/// A new storage version joins those that objects may still be stored in.
fn on_update(definition: &mut Value, _: &Value, subresource: &str) {
    if subresource == "status" {
        return;
    }
    let version: Value = storage_version(definition).into();
    let mut stored = tree::items(definition, &["status", "storedVersions"]).to_vec();
    if !stored.contains(&version) {
        stored.push(version);
        tree::set(definition, &["status", "storedVersions"], stored.into());
    }
}

fn storage_version(definition: &Value) -> &str {
    let mut versions = tree::items(definition, &["spec", "versions"]).iter();
    versions.find(|version| version["storage"] == true).map_or("", |version| tree::text(version, &["name"]))
}

fn on_delete(definition: &mut Value) {
    let now = tree::at(definition, &["metadata", "deletionTimestamp"]).clone();
    let mut conditions = tree::items(definition, &["status", "conditions"]).to_vec();
    conditions.retain(|condition| condition["type"] != "Terminating");
    conditions.push(json!({
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    }));
    tree::set(definition, &["status", "conditions"], conditions.into());
}

/// Whether a definition's group belongs to Kubernetes' community.
pub fn is_protected(definition: &Value) -> bool {
    let group = tree::text(definition, &["spec", "group"]);
    let under =
        |domain: &str| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    PROTECTED.iter().any(|domain| under(domain))
}

/// Rules in CEL compile, and are not too expensive.
fn expressions(definition: &Value, errors: &mut Errors) {
    let versions = tree::items(definition, &["spec", "versions"]);
    for (path, schema) in structural::schemas(&Path::new("spec"), versions) {
        rules::judge(&path, schema, errors);
    }
}

/// Names that look like Kubernetes' own need its community's word.
fn approved(definition: &Value, errors: &mut Errors) {
    if !is_protected(definition) {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    let why = format!(
        "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \
         \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
    );
    match tree::text(definition, &["metadata", "annotations", APPROVED]) {
        "" => errors.push(Error::required(&path, &why)),
        text if text.starts_with("unapproved") || text.contains("://") => {}
        text => errors.push(Error::invalid(&path, text, &why)),
    }
}

/// Once it is served, objects of it may be stored.
fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let is_served = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
    if !tree::items(old, &["status", "conditions"]).iter().any(is_served) {
        return;
    }
    for path in [&["spec", "scope"][..], &["spec", "names", "kind"]] {
        let wanted = tree::at(new, path);
        if wanted != tree::at(old, path) {
            let place = path.iter().fold(Path::default(), |path, name| path.child(name));
            errors.push(Error::invalid(&place, wanted.clone(), "field is immutable"));
        }
    }
}
