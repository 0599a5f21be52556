//! Where objects live in the store: Kubernetes' own layout, so that tools that read etcd find what they expect.
//!
//! `/registry/<resource>/<namespace>/<name>`, with the few historical names that kube-apiserver keeps, and with the
//! group in front for kinds that other servers defined first (API services, custom resources and their definitions).

use tiphys_api::Gvr;

/// All keys begin with this.
pub const ROOT: &str = "/registry/";

/// The part between [`ROOT`] and the object's own key, without slashes around it. `gvr` is the storage resource.
pub fn segment(gvr: &Gvr, custom: bool) -> String {
    let grouped = custom || matches!(gvr.group.as_ref(), "apiextensions.k8s.io" | "apiregistration.k8s.io");
    match (gvr.group.as_ref(), gvr.resource.as_ref()) {
        (group, resource) if grouped => format!("{group}/{resource}"),
        ("", "nodes") => "minions".into(),
        ("", "services") => "services/specs".into(),
        ("", "endpoints") => "services/endpoints".into(),
        ("", "replicationcontrollers") => "controllers".into(),
        ("networking.k8s.io", "ingresses") => "ingress".into(),
        (_, resource) => resource.into(),
    }
}

/// Splits a key into its cache's segment and the rest. One segment or two: `known` says which segments exist.
pub fn split<'k, T>(key: &'k [u8], known: impl Fn(&'k str) -> Option<T>) -> Option<(T, &'k str)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    let (first, second) = (slashes.next()?, slashes.next());
    let at = |end: usize| Some((known(rest.get(..end)?)?, rest.get(end + 1..)?));
    at(first).or_else(|| at(second?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_those_of_kubernetes() {
        let of = |group, resource| segment(&Gvr::new(group, "v1", resource), false);
        assert_eq!(of("", "pods"), "pods");
        assert_eq!(of("apps", "deployments"), "deployments");
        assert_eq!(of("", "services"), "services/specs");
        assert_eq!(of("apiregistration.k8s.io", "apiservices"), "apiregistration.k8s.io/apiservices");
    }

    #[test]
    fn a_key_finds_its_segment() {
        let known = |s: &str| ["pods", "services/specs"].into_iter().find(|k| *k == s);
        assert_eq!(split(b"/registry/pods/ns/a", known), Some(("pods", "ns/a")));
        assert_eq!(split(b"/registry/services/specs/ns/a", known), Some(("services/specs", "ns/a")));
        assert_eq!(split(b"/registry/other/a", known), None);
        assert_eq!(split(b"/registry/pods", known), None);
        assert_eq!(split(b"elsewhere", known), None);
    }
}
