//! StatefulSets: most of their spec is for life.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::registry::tree;

pub(super) const STATEFUL_SETS: Rules = Rules { generation: true, validate_update, ..Rules::DEFAULT };

const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let (mut spec, before) = (tree::at(new, &["spec"]).clone(), tree::at(old, &["spec"]));
    for name in CHANGEABLE {
        tree::set(&mut spec, &[name], tree::at(before, &[name]).clone());
    }
    if spec != *before {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&Path::new("spec"), why));
    }
}
