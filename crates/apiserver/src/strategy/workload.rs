//! Workloads that run for ever: most of the spec of a StatefulSet is for life; all statuses count.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::{Rules, status};
use crate::registry::tree;

const COUNTED: Rules = Rules { generation: true, ..Rules::DEFAULT };
pub(super) const STATEFUL_SETS: Rules = Rules { validate_update, ..COUNTED };
pub(super) const DEPLOYMENTS: Rules = Rules { validate_update: status::deployment, ..COUNTED };
pub(super) const REPLICA_SETS: Rules = Rules { validate_update: status::replica_set, ..COUNTED };
pub(super) const DAEMON_SETS: Rules = Rules { validate_update: status::daemon_set, ..COUNTED };

const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

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
