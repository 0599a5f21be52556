//! OpenAPI documents: version 2 in one, version 3 one per group-version.
//!
//! - Made from the same table as everything else; texts come from [`crate::descriptions`].
//! - Pure functions from resources to JSON text. They take milliseconds: the caller makes a document when it is first
//!   asked for and keeps it, best compressed.
//! - What clients need of them: `kubectl explain` and `--validate` (schemas, kinds of paths), `kubectl apply` (merge
//!   keys, patch media types), generators (operations with ids and parameters).

mod custom;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::descriptions::Descriptions;
use crate::discovery;
use crate::gvr::{Gvk, Gvr};
use crate::schema::{Resource, Schema, Struct, StructId, builtin};
use crate::structural::struct_name;
use schemas::Dialect;
use write::Json;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// `/openapi/v2`: everything in one document of several megabytes.
pub fn v2<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>, version: &str) -> String {
    document(Dialect::V2, &resources.into_iter().collect::<Vec<_>>(), version)
}

/// `/openapi/v3/apis/{group}/{version}` or `/openapi/v3/api/v1`; `None` when nothing of that name is served.
pub fn v3<'a>(
    resources: impl IntoIterator<Item = &'a Arc<Resource>>,
    group: &str,
    version: &str,
    release: &str,
) -> Option<String> {
    let served = resources.into_iter().filter(|r| r.gvr.group == group && r.gvr.version == version);
    let served: Vec<&Arc<Resource>> = served.collect();
    (!served.is_empty()).then(|| document(Dialect::V3, &served, release))
}

/// `/openapi/v3`: where the documents are, with hashes that change when they do. No document is made for it.
pub fn v3_index<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> String {
    let resources: Vec<&Arc<Resource>> = resources.into_iter().collect();
    let mut out = Json::default();
    out.object(|out| {
        out.key("paths").object(|out| {
            for (group, version) in discovery::group_versions(resources.iter().copied()) {
                let path = Gvr::owned(&group, &version, "").base_path();
                let hash = v3_hash(resources.iter().copied(), &group, &version);
                let url = format!("/openapi/v3{path}?hash={hash}");
                out.key(path.trim_start_matches('/')).object(|out| out.pair("serverRelativeURL", &url));
            }
        });
    });
    out.finish()
}

/// A hash of what a version 3 document is made from, in hexadecimal; the same for the same build and resources.
pub fn v3_hash<'a>(
    resources: impl IntoIterator<Item = &'a Arc<Resource>>,
    group: &str,
    version: &str,
) -> String {
    let mut hash = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hash);
    for resource in resources.into_iter().filter(|r| r.gvr.group == group && r.gvr.version == version) {
        format!("{:?}{:?}{:?}", resource.gvr, resource.verbs, resource.subresources).hash(&mut hash);
        if let Some(custom) = &resource.custom {
            custom.document.to_string().hash(&mut hash);
        }
        for (name, (_, record)) in schemas::reachable([(&*resource.schema, resource.object)]) {
            name.hash(&mut hash);
            format!("{:?}", record.fields).hash(&mut hash);
        }
    }
    format!("{:016X}", hash.finish())
}

fn document(dialect: Dialect, resources: &[&Arc<Resource>], release: &str) -> String {
    let kinds = Kinds::new(resources);
    let descriptions = Descriptions::index();
    let types = schemas::Writer { dialect, descriptions: &descriptions, kinds_of: &|name| kinds.of(name) };
    let paths = paths::Writer { dialect, prefix: types.prefix(), type_of: &|gvk| kinds.type_of(gvk) };
    let schemas = |out: &mut Json| {
        types.all(out, &kinds.reachable());
        for (resource, custom) in resources.iter().filter_map(|r| Some((r, r.custom.as_ref()?))) {
            custom::write(out, dialect, types.prefix(), resource, custom);
        }
    };
    let mut out = Json::default();
    out.object(|out| {
        match dialect {
            Dialect::V2 => out.pair("swagger", "2.0"),
            Dialect::V3 => out.pair("openapi", "3.0.0"),
        }
        out.key("info").object(|out| {
            out.pair("title", "Kubernetes");
            out.pair("version", release);
        });
        out.key("paths").object(|out| resources.iter().for_each(|resource| paths.resource(out, resource)));
        match dialect {
            Dialect::V2 => out.key("definitions").object(schemas),
            Dialect::V3 => out.key("components").object(|out| out.key("schemas").object(schemas)),
        }
    });
    out.finish()
}

/// Which kind is which type, for some resources.
struct Kinds<'a> {
    roots: Vec<(&'a Schema, StructId)>,
    by_kind: HashMap<&'a Gvk, &'a str>,
    by_type: HashMap<&'a str, Vec<&'a Gvk>>,
    /// Kinds of custom resources and of their lists.
    custom: HashMap<Gvk, String>,
    group_versions: Vec<(String, String)>,
}

impl<'a> Kinds<'a> {
    fn new(resources: &[&'a Arc<Resource>]) -> Self {
        let schema = builtin().schema();
        let mut kinds = Self {
            roots: Vec::new(),
            by_kind: HashMap::new(),
            by_type: HashMap::new(),
            custom: HashMap::new(),
            group_versions: discovery::group_versions(resources.iter().copied()),
        };
        let served = |gvk: &Gvk| {
            kinds.group_versions.iter().any(|(group, version)| gvk.group == *group && gvk.version == *version)
        };
        let subresources = resources.iter().flat_map(|r| r.subresources.iter().map(|sub| &sub.gvk));
        let mentioned: Vec<&Gvk> = subresources.collect();
        let wanted = builtin().kinds().iter().filter(|(gvk, id)| {
            served(gvk) || mentioned.contains(&gvk) || schema.get(*id).name.starts_with(META)
        });
        let mut all: Vec<(&'a Gvk, &'a Schema, StructId)> =
            wanted.map(|(gvk, id)| (gvk, schema.as_ref(), *id)).collect();
        let (own, custom): (Vec<&'a Arc<Resource>>, Vec<&'a Arc<Resource>>) =
            resources.iter().partition(|r| r.custom.is_none());
        all.extend(own.iter().map(|r| (&r.gvk, r.schema.as_ref(), r.object)));
        for (gvk, schema, id) in all {
            let name = schema.get(id).name.as_ref();
            if kinds.by_kind.insert(gvk, name).is_none() {
                kinds.by_type.entry(name).or_default().push(gvk);
                kinds.roots.push((schema, id));
            }
        }
        for resource in custom {
            let lists = custom::list_kind(resource);
            kinds.custom.extend([resource.gvk.clone(), lists].map(|gvk| (gvk.clone(), struct_name(&gvk))));
        }
        // What custom resources refer to.
        let meta = ["ObjectMeta", "ListMeta"].map(|name| builtin().struct_id(&format!("{META}.{name}")));
        kinds.roots.extend(meta.into_iter().flatten().map(|id| (schema.as_ref(), id)));
        kinds
    }

    fn of(&self, name: &str) -> Vec<Gvk> {
        let everywhere = [format!("{META}.DeleteOptions"), format!("{META}.WatchEvent")];
        if everywhere.iter().any(|each| each == name) {
            let kind = name.rsplit('.').next().unwrap_or_default();
            return self
                .group_versions
                .iter()
                .map(|(group, version)| Gvk::owned(group, version, kind))
                .collect();
        }
        self.by_type.get(name).into_iter().flatten().map(|gvk| (*gvk).clone()).collect()
    }

    fn type_of(&self, gvk: &Gvk) -> Option<String> {
        let own = self.by_kind.get(gvk).map(|name| (*name).to_owned());
        own.or_else(|| self.custom.get(gvk).cloned())
    }

    fn reachable(&self) -> BTreeMap<&'a str, (&'a Schema, &'a Struct)> {
        schemas::reachable(self.roots.iter().copied())
    }
}
