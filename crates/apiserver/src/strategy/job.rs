//! Jobs: their selector is made from their identity, so that no two jobs ever share pods.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

pub(super) const JOBS: Rules =
    Rules { generation: true, orphans: true, on_create, validate, validate_update, ..Rules::DEFAULT };

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const LABELS: [(&str, &str); 4] = [
    (CONTROLLER_UID, "uid"),
    ("batch.kubernetes.io/job-name", "name"),
    ("controller-uid", "uid"),
    ("job-name", "name"),
];

fn is_manual(job: &Value) -> bool {
    tree::at(job, &["spec", "manualSelector"]) == &Value::Bool(true)
}

fn on_create(job: &mut Value, _: &User) {
    if is_manual(job) {
        return;
    }
    for (label, from) in LABELS {
        let value = tree::at(job, &["metadata", from]).clone();
        tree::set(job, &["spec", "template", "metadata", "labels", label], value);
    }
    if tree::at(job, &["metadata", "labels"]).is_null() {
        let labels = tree::at(job, &["spec", "template", "metadata", "labels"]).clone();
        tree::set(job, &["metadata", "labels"], labels);
    }
    if tree::at(job, &["spec", "selector"]).is_null() {
        let uid = tree::at(job, &["metadata", "uid"]).clone();
        tree::set(job, &["spec", "selector", "matchLabels", CONTROLLER_UID], uid);
    }
}

fn validate(job: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("selector");
    let selector = tree::at(job, &["spec", "selector"]);
    if selector.is_null() {
        errors.push(Error::required(&path, ""));
        return;
    }
    let own = tree::at(job, &["metadata", "uid"]);
    let chosen = tree::at(selector, &["matchLabels", CONTROLLER_UID]);
    let legacy = tree::at(selector, &["matchLabels", "controller-uid"]);
    if !is_manual(job) && own != chosen && own != legacy {
        errors.push(Error::invalid(&path, selector.clone(), "`selector` not auto-generated"));
    }
}

fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let mut template = tree::at(new, &["spec", "template"]).clone();
    let before = tree::at(old, &["spec", "template"]);
    let suspended = tree::at(old, &["spec", "suspend"]) == &Value::Bool(true);
    let never_started = tree::at(old, &["status", "startTime"]).is_null();
    if suspended && never_started {
        // The scheduling directives of a job that has not started may still change.
        for path in [
            &["spec", "nodeSelector"][..],
            &["spec", "affinity"],
            &["spec", "tolerations"],
            &["spec", "schedulingGates"],
            &["metadata", "labels"],
            &["metadata", "annotations"],
        ] {
            tree::set(&mut template, path, tree::at(before, path).clone());
        }
    }
    let path = Path::new("spec");
    if template != *before {
        errors.push(Error::invalid(&path.child("template"), template, "field is immutable"));
    }
    let completions = |job| tree::at(job, &["spec", "completions"]).clone();
    let indexed = tree::text(new, &["spec", "completionMode"]) == "Indexed";
    if !indexed && completions(new) != completions(old) {
        errors.push(Error::invalid(&path.child("completions"), completions(new), "field is immutable"));
    }
}
