//! The conditions of a namespace under deletion: what remains in it, and what went wrong. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What one pass over a namespace found.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Objects left, by `resource.group`.
    pub(super) objects: BTreeMap<String, usize>,
    /// Objects left, by finalizer.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// Group-versions that could not be discovered.
    pub(super) undiscovered: Vec<String>,
    /// Requests that failed.
    pub(super) failures: Vec<String>,
}

impl Remains {
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.undiscovered.is_empty() && self.failures.is_empty()
    }
}

/// One condition: its type, the reason and message when it is true, the reason and message when it is not.
type Finding = (&'static str, &'static str, Option<String>, &'static str, &'static str);

/// The conditions as they are now. What did not change keeps its time; what was never wrong is not named.
pub(super) fn conditions(
    remains: &Remains,
    old: &[NamespaceCondition],
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let ours = findings(remains).map(|finding| condition(finding, now));
    let others = old.iter().filter(|c| !ours.iter().any(|o| o.type_ == c.type_)).cloned();
    let mut all: Vec<NamespaceCondition> = others.collect();
    all.extend(ours.iter().map(|new| keep_time(new, old)));
    all
}

fn condition((kind, bad, message, good, well): Finding, now: Timestamp) -> NamespaceCondition {
    let (status, reason) = if message.is_some() { ("True", bad) } else { ("False", good) };
    NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.unwrap_or_else(|| well.to_owned())),
        last_transition_time: Some(Time(now)),
    }
}

fn findings(remains: &Remains) -> [Finding; 5] {
    let list =
        |items: &[String], before: &str| (!items.is_empty()).then(|| format!("{before}{}", items.join(", ")));
    let count = |counts: &BTreeMap<String, usize>, of: &str, before: &str| {
        let text = |(what, n): (&String, &usize)| format!("{what} {of} {n} resource instances");
        list(&counts.iter().map(text).collect::<Vec<_>>(), before)
    };
    let discovery = list(
        &remains.undiscovered,
        "Discovery failed for some groups: unable to retrieve the complete list of server APIs: ",
    );
    let content = list(&remains.failures, "Failed to delete all resource types: ");
    let objects = count(&remains.objects, "has", "Some resources are remaining: ");
    let finalizers =
        count(&remains.finalizers, "in", "Some content in the namespace has finalizers remaining: ");
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            "DiscoveryFailed",
            discovery,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "GroupVersionParsingFailed",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "ContentDeletionFailed",
            content,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            "SomeResourcesRemain",
            objects,
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            "SomeFinalizersRemain",
            finalizers,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]
}

fn keep_time(new: &NamespaceCondition, old: &[NamespaceCondition]) -> NamespaceCondition {
    let same = old.iter().find(|o| o.type_ == new.type_ && o.status == new.status);
    let time = same.map_or(&new.last_transition_time, |same| &same.last_transition_time);
    NamespaceCondition { last_transition_time: time.clone(), ..new.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_named() {
        let remains = Remains {
            objects: BTreeMap::from([("pods.".to_owned(), 2), ("things.example.com".to_owned(), 1)]),
            finalizers: BTreeMap::from([("example.com/hold".to_owned(), 1)]),
            ..Remains::default()
        };
        let conditions = conditions(&remains, &[], Timestamp::UNIX_EPOCH);
        let told: Vec<_> =
            conditions.iter().filter(|c| c.status == "True").map(|c| c.message.clone().unwrap()).collect();
        assert_eq!(
            told,
            [
                "Some resources are remaining: pods. has 2 resource instances, things.example.com has 1 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            ]
        );
        assert_eq!(conditions.len(), 5);
    }
}
