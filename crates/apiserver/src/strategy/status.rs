//! Counts in a status: none is negative, parts are not more than the whole, and collisions are not forgotten.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use crate::registry::tree;

/// What the status of a kind counts.
pub(super) struct Counts {
    /// Fields that are not negative.
    counts: &'static [&'static str],
    /// Fields that are at most as large as another, and what is said otherwise.
    within: &'static [(&'static str, &'static str, &'static str)],
}

const OF_REPLICAS: &str = "cannot be greater than status.replicas";

const DEPLOYMENT: Counts = Counts {
    counts: &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ],
    within: &[
        ("updatedReplicas", "replicas", OF_REPLICAS),
        ("readyReplicas", "replicas", OF_REPLICAS),
        ("availableReplicas", "replicas", OF_REPLICAS),
        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
    ],
};

const REPLICA_SET: Counts = Counts {
    counts: &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ],
    within: &[
        ("fullyLabeledReplicas", "replicas", OF_REPLICAS),
        ("readyReplicas", "replicas", OF_REPLICAS),
        ("availableReplicas", "replicas", OF_REPLICAS),
        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
    ],
};

const STATEFUL_SET: Counts = Counts {
    counts: &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ],
    within: &[
        ("readyReplicas", "replicas", OF_REPLICAS),
        ("currentReplicas", "replicas", OF_REPLICAS),
        ("updatedReplicas", "replicas", OF_REPLICAS),
        ("availableReplicas", "replicas", OF_REPLICAS),
        ("availableReplicas", "readyReplicas", "cannot be greater than status.readyReplicas"),
    ],
};

const DAEMON_SET: Counts = Counts {
    counts: &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ],
    within: &[],
};

const AUTOSCALER: Counts = Counts { counts: &["currentReplicas", "desiredReplicas"], within: &[] };

const BUDGET: Counts = Counts {
    counts: &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"],
    within: &[],
};

const JOB: Counts =
    Counts { counts: &["active", "succeeded", "failed", "ready", "terminating"], within: &[] };

pub(super) fn deployment(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&DEPLOYMENT, new, old, subresource, errors);
}

pub(super) fn replica_set(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&REPLICA_SET, new, old, subresource, errors);
}

pub(super) fn stateful_set(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&STATEFUL_SET, new, old, subresource, errors);
}

pub(super) fn daemon_set(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&DAEMON_SET, new, old, subresource, errors);
}

pub(super) fn autoscaler(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&AUTOSCALER, new, old, subresource, errors);
}

pub(super) fn disruption_budget(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&BUDGET, new, old, subresource, errors);
}

pub(super) fn job(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    check(&JOB, new, old, subresource, errors);
}

/// Judges a change of the status; changes of anything else leave it alone.
fn check(counts: &Counts, new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    if subresource != "status" {
        return;
    }
    let (status, before) = (tree::at(new, &["status"]), tree::at(old, &["status"]));
    let mut wrong = |name: &str, number: i64, why: &str| {
        errors.push(Error::invalid(&Path::new("status").child(name), number, why));
    };
    for name in counts.counts {
        let number = count(status, name);
        if number < 0 {
            wrong(name, number, "must be greater than or equal to 0");
        }
    }
    for (part, whole, why) in counts.within {
        if count(status, part) > count(status, whole) {
            wrong(part, count(status, part), why);
        }
    }
    if count(status, "collisionCount") < count(before, "collisionCount") {
        wrong("collisionCount", count(status, "collisionCount"), "cannot be decremented");
    }
}

fn count(status: &Value, name: &str) -> i64 {
    status.get(name).and_then(Value::as_i64).unwrap_or_default()
}
