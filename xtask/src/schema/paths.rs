//! Resources, verbs and subresources, read from the paths of the OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// Group and version.
pub type GroupVersion = (String, String);

/// One resource of one group-version.
#[derive(Default)]
pub struct Resource {
    name: String,
    kind: String,
    list_kind: String,
    namespaced: bool,
    verbs: BTreeSet<&'static str>,
    subresources: BTreeMap<String, Subresource>,
}

#[derive(Default)]
struct Subresource {
    kind: String,
    verbs: BTreeSet<&'static str>,
}

/// A path taken apart: `/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale`.
struct Parts<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespaced: bool,
    watch: bool,
}

impl Resource {
    /// The lines of the facts table.
    pub fn render(&self) -> String {
        let scope = if self.namespaced { "namespaced" } else { "cluster" };
        let list = if self.list_kind.is_empty() { "-" } else { &self.list_kind };
        let mut text =
            format!("\nresource {} {} {list} {scope} {}\n", self.name, self.kind, join(&self.verbs));
        for (name, sub) in &self.subresources {
            text.push_str(&format!("  sub {name} {} {}\n", sub.kind, join(&sub.verbs)));
        }
        text
    }
}

fn join(verbs: &BTreeSet<&'static str>) -> String {
    verbs.iter().copied().collect::<Vec<_>>().join(",")
}

/// All resources, by group-version, in order of their names.
pub fn resources(swagger: &Value) -> Result<BTreeMap<GroupVersion, Vec<Resource>>> {
    let mut found: BTreeMap<(GroupVersion, String), Resource> = BTreeMap::new();
    for (path, item) in swagger["paths"].as_object().context("swagger has no paths")? {
        let Some(parts) = split(path) else { continue };
        let key = ((parts.group.to_owned(), parts.version.to_owned()), parts.resource.to_owned());
        let resource = found.entry(key).or_default();
        resource.name = parts.resource.to_owned();
        resource.namespaced |= parts.namespaced;
        for (method, operation) in item.as_object().into_iter().flatten() {
            resource.add(&parts, method, operation);
        }
    }
    let mut by_version: BTreeMap<GroupVersion, Vec<Resource>> = BTreeMap::new();
    for ((group_version, _), resource) in found {
        by_version.entry(group_version).or_default().push(resource);
    }
    Ok(by_version)
}

impl Resource {
    fn add(&mut self, parts: &Parts<'_>, method: &str, operation: &Value) {
        if parts.watch {
            self.verbs.insert("watch");
            return;
        }
        let Some(verb) = verb(method, operation) else { return };
        let gvk = &operation["x-kubernetes-group-version-kind"];
        let text = |key: &str| gvk[key].as_str().unwrap_or_default();
        if parts.subresource.is_empty() {
            self.verbs.insert(verb);
            self.kind = text("kind").to_owned();
            if verb == "list" {
                self.list_kind = list_kind(operation);
            }
        } else {
            let sub = self.subresources.entry(parts.subresource.to_owned()).or_default();
            sub.verbs.insert(verb);
            let group = text("group");
            let separator = if group.is_empty() { "" } else { "/" };
            sub.kind = format!("{group}{separator}{}/{}", text("version"), text("kind"));
        }
    }
}

fn list_kind(operation: &Value) -> String {
    let reference = operation["responses"]["200"]["schema"]["$ref"].as_str().unwrap_or_default();
    reference.rsplit('.').next().unwrap_or_default().to_owned()
}

fn verb(method: &str, operation: &Value) -> Option<&'static str> {
    match (method, operation["x-kubernetes-action"].as_str()?) {
        (_, "deletecollection") => Some("deletecollection"),
        (_, "list") => Some("list"),
        ("get", _) => Some("get"),
        ("post", _) => Some("create"),
        ("put", _) => Some("update"),
        ("patch", _) => Some("patch"),
        ("delete", _) => Some("delete"),
        _ => None,
    }
}

fn split(path: &str) -> Option<Parts<'_>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, mut rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let watch = rest.first() == Some(&"watch");
    rest = rest.get(usize::from(watch)..)?;
    let namespaced = matches!(rest, ["namespaces", "{namespace}", _, ..]);
    if namespaced {
        rest = rest.get(2..)?;
    }
    let (resource, subresource) = match rest {
        [resource] | [resource, "{name}"] => (*resource, ""),
        [resource, "{name}", subresource] => (*resource, *subresource),
        _ => return None,
    };
    Some(Parts { group, version, resource, subresource, namespaced, watch })
        .filter(|parts| !parts.resource.is_empty())
}
