//! Jobs: their selector is made from their identity, so that no two jobs ever share pods; what runs does not change.

mod status;

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate;

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

pub(super) const JOBS: Rules =
    Rules { generation: true, orphans: true, on_create, validate, validate_update, ..Rules::DEFAULT };

/// Their zone is known; what was known when it was written may be told apart differently by a later database.
pub(super) const CRON_JOBS: Rules = Rules {
    generation: true,
    validate_create: zone,
    validate_update: |new, old, _, errors| {
        if tree::at(new, ZONE) != tree::at(old, ZONE) {
            zone(new, errors);
        }
    },
    ..Rules::DEFAULT
};

const ZONE: &[&str] = &["spec", "timeZone"];

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

fn is_indexed(job: &Value) -> bool {
    tree::text(job, &["spec", "completionMode"]) == "Indexed"
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
    pod_names(job, errors);
}

/// An Indexed Job's pods are named after it and their index.
fn pod_names(job: &Value, errors: &mut Errors) {
    let completions = tree::at(job, &["spec", "completions"]).as_i64().unwrap_or_default();
    let name = tree::text(job, &["metadata", "name"]);
    // Most names are far from the limit: no text is made for them.
    let roomy = name.len() < 40 && !name.contains('.');
    if !is_indexed(job) || completions <= 0 || roomy {
        return;
    }
    let last = format!("{name}-{}", completions - 1);
    if !validate::dns1123_label(&last).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {last}");
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, &why));
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    if subresource == "status" {
        status::validate(new, old, errors);
        return;
    }
    completions(new, old, errors);
    template(new, old, errors);
}

fn completions(new: &Value, old: &Value, errors: &mut Errors) {
    let of = |job, name| tree::at(job, &["spec", name]);
    let wanted = of(new, "completions");
    if wanted == of(old, "completions") {
        return;
    }
    let path = Path::new("spec").child("completions");
    if !is_indexed(new) {
        errors.push(Error::invalid(&path, wanted.clone(), "field is immutable"));
    } else if wanted != of(new, "parallelism") {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&path, wanted.clone(), why));
    }
}

/// What may change in the template of a job that is suspended and has not started.
const DIRECTIVES: [&[&str]; 6] = [
    &["spec", "nodeSelector"],
    &["spec", "tolerations"],
    &["spec", "schedulingGates"],
    &["spec", "affinity", "nodeAffinity"],
    &["metadata", "labels"],
    &["metadata", "annotations"],
];

fn template(new: &Value, old: &Value, errors: &mut Errors) {
    let (wanted, before) = (tree::at(new, &["spec", "template"]), tree::at(old, &["spec", "template"]));
    if wanted == before {
        return;
    }
    let suspended = tree::at(old, &["spec", "suspend"]) == &Value::Bool(true);
    let started = !tree::at(old, &["status", "startTime"]).is_null();
    let path = Path::new("spec").child("template");
    if suspended && !started && same_but_for_directives(wanted, before) {
        return;
    }
    errors.push(Error::invalid(&path, wanted.clone(), "field is immutable"));
}

fn same_but_for_directives(wanted: &Value, before: &Value) -> bool {
    let mut template = wanted.clone();
    for path in DIRECTIVES {
        tree::set(&mut template, path, tree::at(before, path).clone());
    }
    for list in ["containers", "initContainers"] {
        let path = format!("/spec/{list}");
        let containers = template.pointer_mut(&path).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, before) in containers.zip(tree::items(before, &["spec", list])) {
            if container.get("name") == before.get("name") {
                tree::set(container, &["resources"], tree::at(before, &["resources"]).clone());
            }
        }
    }
    // An affinity that held nothing else comes and goes with its directives.
    if tree::at(&template, &["spec", "affinity"]).as_object().is_some_and(|affinity| affinity.is_empty()) {
        tree::set(&mut template, &["spec", "affinity"], Value::Null);
    }
    template == *before
}

/// A time zone by its name, as the IANA's database writes it.
fn zone(cron: &Value, errors: &mut Errors) {
    let Some(zone) = tree::at(cron, ZONE).as_str() else { return };
    let known = || jiff::tz::TimeZone::get(zone).is_ok_and(|found| found.iana_name() == Some(zone));
    let why = match zone {
        "" => "timeZone must be nil or non-empty string".to_owned(),
        zone if zone.eq_ignore_ascii_case("Local") => {
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".to_owned()
        }
        zone if !known() => format!("unknown time zone {zone}"),
        _ => return,
    };
    errors.push(Error::invalid(&Path::new("spec").child("timeZone"), zone, &why));
}
