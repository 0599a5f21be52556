//! Discovery documents: which groups, versions and resources are served.
//!
//! - Pure functions from resources to documents; the caller keeps them until its resources change.
//! - Resources come in the order of discovery, groups in order of first appearance, versions by preference. Built-in
//!   ones come so from [`crate::schema::Catalog::iter`], custom ones follow.
//! - Two forms: one document per group-version as ever, and all of a root in one (`apidiscovery.k8s.io/v2`).

use std::sync::Arc;

use crate::{Value, json};

use crate::gvr::Gvk;
use crate::schema::{Resource, Subresource, version_rank};

/// `/api`: versions of the core group. `server` is the address that clients reach, as `10.0.0.1:6443`.
pub fn api_versions(server: &str) -> Value {
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]);
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses})
}

/// `/apis`: all named groups.
pub fn groups<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Value {
    let groups: Vec<Value> =
        by_group(resources).iter().filter(|group| !group.name.is_empty()).map(Group::summary).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}`: one group.
pub fn group<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>, name: &str) -> Option<Value> {
    let groups = by_group(resources);
    let mut summary = groups.iter().find(|group| group.name == name)?.summary();
    summary["kind"] = "APIGroup".into();
    summary["apiVersion"] = "v1".into();
    Some(summary)
}

/// `/api/v1`, `/apis/{group}/{version}`: the resources of a group-version.
pub fn resources<'a>(
    resources: impl IntoIterator<Item = &'a Arc<Resource>>,
    group: &str,
    version: &str,
) -> Option<Value> {
    let served: Vec<&Arc<Resource>> =
        resources.into_iter().filter(|r| r.gvr.group == group && r.gvr.version == version).collect();
    let group_version = served.first()?.gvr.api_version();
    let list: Vec<Value> = served.iter().flat_map(|r| entries(r)).collect();
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    )
}

/// `/api` in the aggregated form: the core group with its resources.
pub fn aggregated_api<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Value {
    aggregated(by_group(resources).iter().filter(|group| group.name.is_empty()))
}

/// `/apis` in the aggregated form: all named groups with their resources.
pub fn aggregated_apis<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Value {
    aggregated(by_group(resources).iter().filter(|group| !group.name.is_empty()))
}

/// Group and version of everything served, in discovery's order.
pub fn group_versions<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Vec<(String, String)> {
    let groups = by_group(resources);
    let pairs = groups.iter().flat_map(|g| g.versions.iter().map(|v| (g.name.to_owned(), v.name.to_owned())));
    pairs.collect()
}

struct Group<'a> {
    name: &'a str,
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    name: &'a str,
    resources: Vec<&'a Resource>,
}

fn by_group<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for resource in resources {
        let (name, version) = (resource.gvr.group.as_ref(), resource.gvr.version.as_ref());
        let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            groups.push(Group { name, versions: Vec::new() });
            groups.len() - 1
        });
        groups[at].add(version, resource);
    }
    for group in &mut groups {
        group.versions.sort_by_cached_key(|version| version_rank(version.name));
    }
    groups
}

impl<'a> Group<'a> {
    fn add(&mut self, version: &'a str, resource: &'a Resource) {
        match self.versions.iter_mut().find(|v| v.name == version) {
            Some(found) => found.resources.push(resource),
            None => self.versions.push(Version { name: version, resources: vec![resource] }),
        }
    }

    fn summary(&self) -> Value {
        let version =
            |v: &Version<'_>| json!({"groupVersion": format!("{}/{}", self.name, v.name), "version": v.name});
        let versions: Vec<Value> = self.versions.iter().map(version).collect();
        json!({"name": self.name, "preferredVersion": versions.first(), "versions": versions})
    }

    fn aggregated(&self) -> Value {
        let version = |v: &Version<'_>| {
            let resources: Vec<Value> = v.resources.iter().map(|r| aggregated_entry(r)).collect();
            json!({"freshness": "Current", "resources": resources, "version": v.name})
        };
        let versions: Vec<Value> = self.versions.iter().map(version).collect();
        json!({"metadata": {"name": self.name, "creationTimestamp": null}, "versions": versions})
    }
}

/// One resource and its subresources in an `APIResourceList`.
fn entries(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "kind": resource.gvk.kind,
        "name": resource.gvr.resource,
        "namespaced": resource.namespaced,
        "singularName": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        own["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        own["categories"] = json!(resource.categories);
    }
    let subresources = resource.subresources.iter().map(|sub| subresource_entry(resource, sub));
    std::iter::once(own).chain(subresources).collect()
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({
        "kind": sub.gvk.kind,
        "name": format!("{}/{}", resource.gvr.resource, sub.name),
        "namespaced": resource.namespaced,
        "singularName": "",
        "verbs": sub.verbs,
    });
    if (&sub.gvk.group, &sub.gvk.version) != (&resource.gvr.group, &resource.gvr.version) {
        entry["group"] = sub.gvk.group.as_ref().into();
        entry["version"] = sub.gvk.version.as_ref().into();
    }
    entry
}

fn aggregated<'a, 'b: 'a>(groups: impl Iterator<Item = &'a Group<'b>>) -> Value {
    let items: Vec<Value> = groups.map(Group::aggregated).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_entry(resource: &Resource) -> Value {
    let subresource = |sub: &Subresource| json!({"responseKind": kind(&sub.gvk), "subresource": sub.name, "verbs": sub.verbs});
    let mut entry = json!({
        "resource": resource.gvr.resource,
        "responseKind": kind(&resource.gvk),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    let lists = [
        ("shortNames", json!(resource.short_names)),
        ("categories", json!(resource.categories)),
        ("subresources", resource.subresources.iter().map(subresource).collect()),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| list.as_array().is_some_and(|l| !l.is_empty())) {
        entry[name] = list;
    }
    entry
}

fn kind(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;

    #[test]
    fn groups_come_in_kubernetes_order_with_the_preferred_version_first() {
        let document = groups(builtin().iter());
        let names: Vec<&str> =
            document["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
        assert_eq!(names[..4], ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]);
        let autoscaling = group(builtin().iter(), "autoscaling").unwrap();
        assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(autoscaling["versions"][1]["version"], "v1");
        assert!(group(builtin().iter(), "nope").is_none());
    }

    #[test]
    fn a_group_version_lists_resources_and_subresources() {
        let document = resources(builtin().iter(), "", "v1").unwrap();
        let entry = |name: &str| {
            document["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned().unwrap()
        };
        let pods = entry("pods");
        assert_eq!((&pods["shortNames"], &pods["categories"]), (&json!(["po"]), &json!(["all"])));
        let wanted =
            json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
        assert_eq!(pods["verbs"], wanted);
        let eviction = entry("pods/eviction");
        assert_eq!((&eviction["group"], &eviction["kind"]), (&json!("policy"), &json!("Eviction")));
        assert!(entry("pods/status").get("group").is_none());
        assert!(resources(builtin().iter(), "apps", "v9").is_none());
    }

    #[test]
    fn the_aggregated_form_holds_everything() {
        let core = aggregated_api(builtin().iter());
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let apis = aggregated_apis(builtin().iter());
        let apps =
            apis["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "apps").unwrap();
        let daemons = &apps["versions"][0]["resources"][1];
        assert_eq!((&daemons["resource"], &daemons["scope"]), (&json!("daemonsets"), &json!("Namespaced")));
        assert_eq!(group_versions(builtin().iter())[0], (String::new(), "v1".to_owned()));
    }
}
