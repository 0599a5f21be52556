//! Autoscalers and disruption budgets.

use serde_json::Value;

use super::{At, Fields, number};
use crate::field::{Error, Errors};

/// At least as many replicas at most as at least.
pub fn autoscaler(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let (min, max) = (number(spec, "minReplicas"), number(spec, "maxReplicas").unwrap_or_default());
    if max < 1 {
        errors.push(Error::invalid(&at.path().child("maxReplicas"), max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&at.path().child("maxReplicas"), max, why));
    }
}

/// A budget counts what is up or what is down, not both.
pub fn disruption_budget(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if spec.contains_key("minAvailable") && spec.contains_key("maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&at.path(), Value::Object(spec.clone()), why));
    }
}
