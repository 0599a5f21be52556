//! Workloads that run for ever: most of the spec of a StatefulSet is for life; all statuses count.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::{Rules, status};
use crate::auth::User;
use crate::registry::tree;

const COUNTED: Rules = Rules { generation: true, ..Rules::DEFAULT };
pub(super) const STATEFUL_SETS: Rules = Rules { validate_update, ..COUNTED };
pub(super) const DEPLOYMENTS: Rules = Rules { validate_update: status::deployment, ..COUNTED };
pub(super) const REPLICA_SETS: Rules = Rules { validate_update: status::replica_set, ..COUNTED };
pub(super) const DAEMON_SETS: Rules = Rules {
    validate_update: status::daemon_set,
    on_create: first_template,
    on_update: next_template,
    ..COUNTED
};

/// Counts the versions of a DaemonSet's template, as a field of its spec did before `apps/v1`.
const TEMPLATE_GENERATION: [&str; 3] =
    ["metadata", "annotations", "deprecated.daemonset.template.generation"];

const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn first_template(set: &mut Value, _: &User) {
    number_template(set, 1);
}

fn next_template(set: &mut Value, old: &Value, subresource: &str) {
    if subresource.is_empty() {
        let known = tree::text(old, &TEMPLATE_GENERATION).parse().unwrap_or(1);
        let template = |set| tree::at(set, &["spec", "template"]);
        let changed = template(set) != template(old);
        number_template(set, known + i64::from(changed));
    }
}

fn number_template(set: &mut Value, number: i64) {
    tree::set(set, &TEMPLATE_GENERATION, number.to_string().into());
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    status::stateful_set(new, old, subresource, errors);
    if !subresource.is_empty() {
        return;
    }
    let (spec, before) = (tree::at(new, &["spec"]), tree::at(old, &["spec"]));
    let fixed = |spec: &Value, other: &Value| {
        let fields = spec.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !CHANGEABLE.contains(&name.as_str()))
            .all(|(name, v)| other.get(name) == Some(v))
    };
    if !(fixed(spec, before) && fixed(before, spec)) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&Path::new("spec"), why));
    }
}
