//! Discovery documents of this server and of the extension servers behind it as one. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use tiphys_api::{Value, json};

use super::priorities::{self, Place};

/// What discovery shows of an extension server's group-version.
#[derive(Clone, Debug)]
pub struct Shown {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Where it stands.
    pub place: Place,
    /// What the server told of itself, and whether that is still so.
    pub found: Arc<Found>,
}

/// What an extension server told of one of its group-versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Its resources, as `apidiscovery.k8s.io/v2` lists them.
    pub resources: Vec<Value>,
    /// Whether it answered when it was asked last.
    pub current: bool,
    /// Tag of the document that this was read from; empty when it had none.
    pub tag: String,
    /// Where its OpenAPI document is, from the slash on; empty when it has none.
    pub openapi: String,
}

/// A version of a group in either form.
struct Entry {
    group: String,
    version: String,
    place: Place,
    value: Value,
}

/// `/apis`: an `APIGroupList`.
pub fn groups(local: &Value, shown: &[Shown]) -> Value {
    let versions = |group: &Value| group["versions"].as_array().cloned().unwrap_or_default();
    let mut entries: Vec<Entry> = items(local, "groups")
        .iter()
        .flat_map(|group| versions(group).into_iter().map(|value| Entry::local(&group["name"], value)))
        .collect();
    add(
        &mut entries,
        shown,
        |each| json!({"groupVersion": format!("{}/{}", each.group, each.version), "version": each.version}),
    );
    let group = |(name, versions): (String, Vec<Value>)| json!({"name": name, "preferredVersion": versions.first(), "versions": versions});
    let groups: Vec<Value> = grouped(entries).into_iter().map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}` out of `/apis`.
pub fn group(groups: &Value, name: &str) -> Option<Value> {
    let mut group = items(groups, "groups").iter().find(|group| group["name"] == name)?.clone();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

/// `/apis` in the aggregated form: an `APIGroupDiscoveryList`.
pub fn aggregated(mut local: Value, shown: &[Shown]) -> Value {
    let versions = |group: &Value| group["versions"].as_array().cloned().unwrap_or_default();
    let mut entries: Vec<Entry> = items(&local, "items")
        .iter()
        .flat_map(|group| {
            versions(group).into_iter().map(|value| Entry::local(&group["metadata"]["name"], value))
        })
        .collect();
    add(&mut entries, shown, |each| {
        let freshness = if each.found.current { "Current" } else { "Stale" };
        json!({"freshness": freshness, "resources": each.found.resources, "version": each.version})
    });
    let group = |(name, versions): (String, Vec<Value>)| json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions});
    local["items"] = grouped(entries).into_iter().map(group).collect();
    local
}

/// `/openapi/v3`: where the documents are.
pub fn openapi_index(mut local: Value, shown: &[Shown]) -> Value {
    if let Some(paths) = local["paths"].as_object_mut() {
        for Shown { group, version, found, .. } in shown {
            let path = format!("apis/{group}/{version}");
            match found.openapi.as_str() {
                "" => drop(paths.remove(path.as_str())),
                url => drop(paths.insert(path.into(), json!({"serverRelativeURL": url}))),
            }
        }
    }
    local
}

fn items<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Entry {
    fn local(group: &Value, value: Value) -> Self {
        let group = group.as_str().unwrap_or_default().to_owned();
        let version = value["version"].as_str().unwrap_or_default().to_owned();
        Self { place: priorities::place(&group, &version), group, version, value }
    }
}

/// Adds what others serve, in the place of what is served here under the same name.
fn add(entries: &mut Vec<Entry>, shown: &[Shown], value: impl Fn(&Shown) -> Value) {
    entries.retain(|entry| !shown.iter().any(|s| s.group == entry.group && s.version == entry.version));
    entries.extend(shown.iter().map(|each| Entry {
        group: each.group.clone(),
        version: each.version.clone(),
        place: each.place,
        value: value(each),
    }));
}

/// Groups by their best version's place and then by name, with their versions in order.
fn grouped(entries: Vec<Entry>) -> Vec<(String, Vec<Value>)> {
    let mut groups: Vec<(i64, String, Vec<Entry>)> = Vec::new();
    for entry in entries {
        match groups.iter_mut().find(|(_, name, _)| *name == entry.group) {
            Some((place, _, versions)) => {
                *place = entry.place.group.max(*place);
                versions.push(entry);
            }
            None => groups.push((entry.place.group, entry.group.clone(), vec![entry])),
        }
    }
    groups.sort_by(|a, b| (Reverse(a.0), &a.1).cmp(&(Reverse(b.0), &b.1)));
    let sorted = |(_, name, mut versions): (i64, String, Vec<Entry>)| {
        versions.sort_by_cached_key(|entry| priorities::version_order(entry.place, &entry.version));
        (name, versions.into_iter().map(|entry| entry.value).collect())
    };
    groups.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use tiphys_api::discovery;
    use tiphys_api::schema::builtin;

    use super::*;

    fn shown(group: &str, version: &str, place: (i64, i64), current: bool) -> Shown {
        let found = Found {
            resources: vec![json!({"resource": "flunders"})],
            current,
            openapi: if current {
                format!("/openapi/v3/apis/{group}/{version}?hash=A")
            } else {
                String::new()
            },
            ..Found::default()
        };
        let place = Place { group: place.0, version: place.1 };
        Shown { group: group.into(), version: version.into(), place, found: found.into() }
    }

    fn names(groups: &Value) -> Vec<&str> {
        items(groups, "groups").iter().filter_map(|group| group["name"].as_str()).collect()
    }

    #[test]
    fn what_is_served_here_keeps_its_order() {
        let local = discovery::groups(builtin().iter());
        let merged = groups(&local, &[]);
        assert_eq!(names(&merged)[..3], names(&local)[..3]);
        assert_eq!(names(&merged).len(), names(&local).len());
        assert_eq!(names(&merged).last(), Some(&"metrics.k8s.io"));
        assert_eq!(group(&merged, "autoscaling").unwrap()["preferredVersion"]["version"], "v2");
    }

    #[test]
    fn extensions_stand_where_they_ask_to() {
        let extensions = [
            shown("wardle.example.com", "v1alpha1", (2000, 200), true),
            shown("wardle.example.com", "v1beta1", (1000, 300), true),
            shown("a.example.com", "v1", (2000, 1), false),
            shown("metrics.k8s.io", "v1beta1", (17_790, 100), true),
        ];
        let merged = groups(&discovery::groups(builtin().iter()), &extensions);
        let seen = names(&merged);
        assert_eq!(seen[..3], ["apiregistration.k8s.io", "apps", "metrics.k8s.io"]);
        assert_eq!(seen[seen.len() - 2..], ["a.example.com", "wardle.example.com"]);
        let wardle = group(&merged, "wardle.example.com").unwrap();
        assert_eq!(wardle["preferredVersion"]["groupVersion"], "wardle.example.com/v1beta1");
        assert_eq!(group(&merged, "nothing"), None);

        let merged = aggregated(discovery::aggregated_apis(builtin().iter()), &extensions);
        let find = |name: &str| {
            items(&merged, "items").iter().find(|group| group["metadata"]["name"] == name).cloned().unwrap()
        };
        assert_eq!(find("a.example.com")["versions"][0]["freshness"], "Stale");
        let theirs =
            json!([{"freshness": "Current", "resources": [{"resource": "flunders"}], "version": "v1beta1"}]);
        assert_eq!(find("metrics.k8s.io")["versions"], theirs, "theirs wins");
    }

    #[test]
    fn documents_are_where_the_extension_says() {
        let local = json!({"paths": {"apis/apps/v1": {"serverRelativeURL": "x"}, "apis/b/v1": {"serverRelativeURL": "y"}}});
        let merged = openapi_index(local, &[shown("a", "v1", (1, 1), true), shown("b", "v1", (1, 1), false)]);
        let wanted = json!({"paths": {
            "apis/apps/v1": {"serverRelativeURL": "x"},
            "apis/a/v1": {"serverRelativeURL": "/openapi/v3/apis/a/v1?hash=A"},
        }});
        assert_eq!(merged, wanted);
    }
}
