//! VolumeBinding: a pod goes where its volumes are, or where the unbound ones of its claims can be.

use super::Filter;
use super::node_affinity::matches_any;

/// The filter.
pub const FILTER: Filter = Filter {
    name: "VolumeBinding",
    reasons: |pod, node| {
        let needs = pod.wishes.as_ref().and_then(|wishes| wishes.volumes.as_ref());
        let Some(needs) = needs else { return vec![] };
        let elsewhere = needs.node.as_ref().is_some_and(|chosen| *chosen != node.facts.name);
        if elsewhere || !needs.affinities.iter().all(|required| matches_any(required, &node.facts)) {
            return vec!["node(s) didn't match PersistentVolume's node affinity".into()];
        }
        match needs.unbound.iter().all(|claim| claim.provisioned || claim.free_on(&node.facts).is_some()) {
            true => vec![],
            false => vec!["node(s) didn't find available persistent volumes to bind".into()],
        }
    },
};
