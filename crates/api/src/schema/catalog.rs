//! The catalog: every resource that Kubernetes itself serves, found by its names.
//!
//! - Built once from the committed table (a few milliseconds) and then shared for the life of the process.
//! - Order is discovery's: groups as Kubernetes lists them, in each the preferred version first, then by name.
//! - Objects of a resource served in several versions are stored in one: the most preferred.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::names::Names;
use super::table::{self, Table};
use super::{Resource, Schema, StructId};
use crate::gvr::{Gvk, Gvr};

/// All built-in resources.
#[derive(Debug)]
pub struct Catalog {
    resources: Vec<Arc<Resource>>,
    by_gvr: HashMap<Gvr, usize>,
    by_kind: HashMap<Gvk, usize>,
    stored: HashMap<Gvr, usize>,
    schema: Arc<Schema>,
    structs: HashMap<Box<str>, StructId>,
    kinds: Vec<(Gvk, StructId)>,
    types: HashMap<Gvk, StructId>,
}

static BUILTIN: LazyLock<Catalog> = LazyLock::new(|| {
    let files: Vec<&'static str> = table::FILES.iter().copied().chain([table::METRICS]).collect();
    let table = table::parse(&files).expect("the committed table is parsed by a test");
    let names = Names::parse(table::NAMES).expect("the committed names are parsed by a test");
    Catalog::new(table, &names)
});

/// The resources that Kubernetes 1.36 serves.
pub fn builtin() -> &'static Catalog {
    &BUILTIN
}

impl Catalog {
    pub(super) fn new(table: Table, names: &Names) -> Self {
        let schema = Arc::new(table.schema);
        let mut resources: Vec<Resource> =
            table.resources.into_iter().map(|raw| names.complete(raw, &schema)).collect();
        resources.sort_by_cached_key(|r| {
            (
                names.group_rank(&r.gvr.group),
                r.gvr.group.clone(),
                version_rank(&r.gvr.version),
                r.gvr.resource.clone(),
            )
        });
        let resources: Vec<Arc<Resource>> = resources.into_iter().map(Arc::new).collect();
        let by_gvr: HashMap<Gvr, usize> =
            resources.iter().enumerate().map(|(at, r)| (r.gvr.clone(), at)).collect();
        let mut by_kind = HashMap::new();
        for (at, resource) in resources.iter().enumerate() {
            // The first wins where several resources share a kind.
            by_kind.entry(resource.gvk.clone()).or_insert(at);
        }
        let stored = stored(&resources, names);
        let Table { structs, kinds, .. } = table;
        let types = kinds.iter().rev().cloned().collect();
        Self { resources, by_gvr, by_kind, stored, schema, structs, kinds, types }
    }

    /// All resources in discovery's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// The resource of a name.
    pub fn get(&self, gvr: &Gvr) -> Option<&Arc<Resource>> {
        self.by_gvr.get(gvr).and_then(|at| self.resources.get(*at))
    }

    /// The resource whose objects are of a kind.
    pub fn by_kind(&self, gvk: &Gvk) -> Option<&Arc<Resource>> {
        self.by_kind.get(gvk).and_then(|at| self.resources.get(*at))
    }

    /// The resource in whose version objects of this one are stored: itself for most.
    ///
    /// # Panics
    /// When `gvr` is not in the catalog.
    pub fn storage(&self, gvr: &Gvr) -> &Arc<Resource> {
        self.stored.get(gvr).and_then(|at| self.resources.get(*at)).expect(
            "the caller found the name in this catalog, and every resource in it has a place of storage",
        )
    }

    /// The arena of all built-in types.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// A type by its OpenAPI definition name, as `io.k8s.api.core.v1.Container`.
    pub fn struct_id(&self, name: &str) -> Option<StructId> {
        self.structs.get(name).copied()
    }

    /// The type of a kind that may stand in `kind` of a document.
    pub fn type_of(&self, gvk: &Gvk) -> Option<StructId> {
        self.types.get(gvk).copied()
    }

    /// Every kind that may stand in `kind` of a document: objects, lists, `Status`, options.
    pub fn kinds(&self) -> &[(Gvk, StructId)] {
        &self.kinds
    }
}

fn stored(resources: &[Arc<Resource>], names: &Names) -> HashMap<Gvr, usize> {
    let mut first: HashMap<String, usize> = HashMap::new();
    for (at, resource) in resources.iter().enumerate() {
        first.entry(resource.gvr.group_resource()).or_insert(at);
    }
    resources
        .iter()
        .filter_map(|resource| {
            let own = resource.gvr.group_resource();
            let at = first.get(names.stored_as(&own))?;
            Some((resource.gvr.clone(), *at))
        })
        .collect()
}

/// Kubernetes' order of versions, most preferred first: stable before beta before alpha, newer before older.
pub fn version_rank(version: &str) -> (u8, i64, i64, String) {
    let unknown = || (3, 0, 0, version.to_owned());
    let Some(rest) = version.strip_prefix('v') else { return unknown() };
    let major_len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (major, stage) = rest.split_at(major_len);
    let Ok(major) = major.parse::<i64>() else { return unknown() };
    let numbered = |class: u8, minor: &str| match minor.parse::<i64>() {
        Ok(minor) => (class, -major, -minor, String::new()),
        Err(_) if minor.is_empty() => (class, -major, 0, String::new()),
        Err(_) => unknown(),
    };
    match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
        (Some(minor), _) => numbered(1, minor),
        (_, Some(minor)) => numbered(2, minor),
        _ if stage.is_empty() => (0, -major, 0, String::new()),
        _ => unknown(),
    }
}
