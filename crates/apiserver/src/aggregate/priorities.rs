//! Which place a group-version has in discovery, and which of those served here get an APIService of their own.
//!
//! The numbers are those of kube-apiserver: they decide in which order clients look for a short name.

use std::cmp::Reverse;

use tiphys_api::schema::version_rank;
use tiphys_api::{Value, json};

/// Says how far this server insists on an APIService: `onstart` or `true`.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// A group with its place among groups, and its versions with theirs.
type Row = (&'static str, i64, &'static [(&'static str, i64)]);

const GROUPS: &[Row] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15)]),
    ("authentication.k8s.io", 17_700, &[("v1", 15)]),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v2", 30), ("v1", 15)]),
    ("batch", 17_400, &[("v1", 15)]),
    ("certificates.k8s.io", 17_300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17_200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17_100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    ("storage.k8s.io", 16_800, &[("v1", 15), ("v1beta1", 9)]),
    ("admissionregistration.k8s.io", 16_700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    ("scheduling.k8s.io", 16_600, &[("v1", 15), ("v1alpha2", 1)]),
    ("coordination.k8s.io", 16_500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16_300, &[("v1", 15)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15)]),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
    ("internal.apiserver.k8s.io", 16_000, &[("v1alpha1", 9)]),
    ("resource.k8s.io", 15_900, &[("v1", 20), ("v1beta2", 15), ("v1beta1", 12), ("v1alpha3", 9)]),
    ("storagemigration.k8s.io", 15_800, &[("v1beta1", 9)]),
];
/// Served beside the others and never passed on, so that nothing registers it: it comes first.
const OWN: &str = "apiregistration.k8s.io";
const OWN_PLACE: Place = Place { group: 20_000, version: 15 };
const CUSTOM_PLACE: Place = Place { group: 1000, version: 100 };
/// As `metrics-server` registers what is served here until one is installed.
const METRICS_PLACE: Place = Place { group: 100, version: 100 };

/// The place of a group-version; higher ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Among groups.
    pub group: i64,
    /// In the group.
    pub version: i64,
}

/// Where a group-version that is served here stands.
pub fn place(group: &str, version: &str) -> Place {
    match group {
        OWN => OWN_PLACE,
        crate::node_metrics::GROUP => METRICS_PLACE,
        _ => built_in(group, version).unwrap_or(CUSTOM_PLACE),
    }
}

fn built_in(group: &str, version: &str) -> Option<Place> {
    let (_, place, versions) = GROUPS.iter().find(|(name, ..)| *name == group)?;
    let (_, version) = versions.iter().find(|(name, _)| *name == version)?;
    Some(Place { group: *place, version: *version })
}

/// What versions of a group are sorted by: place, then Kubernetes' own order of versions.
pub fn version_order(place: Place, version: &str) -> impl Ord + use<> {
    (Reverse(place.version), version_rank(version))
}

/// The APIService that stands for a group-version served here; `None` for those that have none.
pub fn desired(group: &str, version: &str) -> Option<Value> {
    if [OWN, crate::node_metrics::GROUP].contains(&group) {
        return None;
    }
    let (place, managed) = match built_in(group, version) {
        Some(place) => (place, "onstart"),
        None => (CUSTOM_PLACE, "true"),
    };
    let mut spec = json!({
        "version": version, "groupPriorityMinimum": place.group, "versionPriority": place.version,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    Some(json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use tiphys_api::discovery;
    use tiphys_api::schema::builtin;

    use super::*;

    #[test]
    fn every_built_in_version_has_its_place_in_discovery_s_order() {
        let mut last = i64::MAX;
        for (group, version) in discovery::group_versions(builtin().iter()).into_iter().skip(1) {
            let here = place(&group, &version);
            let registered = desired(&group, &version);
            let own = [OWN, crate::node_metrics::GROUP].contains(&group.as_str());
            assert_eq!(registered.is_none(), own, "{version}.{group}");
            assert!(own || built_in(&group, &version).is_some(), "{version}.{group} has no place");
            assert!(here.group <= last, "{version}.{group} stands before its place");
            last = here.group;
        }
    }

    #[test]
    fn custom_ones_are_followed_and_built_in_ones_made_once() {
        let apps = desired("apps", "v1").unwrap();
        assert_eq!(apps["metadata"]["labels"][MANAGED], "onstart");
        assert_eq!(apps["spec"]["groupPriorityMinimum"], 17_800);
        let custom = desired("example.com", "v1alpha1").unwrap();
        assert_eq!(custom["metadata"]["name"], "v1alpha1.example.com");
        assert_eq!(
            (&custom["metadata"]["labels"][MANAGED], &custom["spec"]["versionPriority"]),
            (&json!("true"), &json!(100))
        );
        assert_eq!(desired("", "v1").unwrap()["metadata"]["name"], "v1.");
    }
}
