//! From a CustomResourceDefinition to the resources that it defines, one for each version.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::read::{fields, flag, text, values};
use super::{Compile, Custom, FieldPath, Node, ScalePaths, shape};
use crate::field::Path;
use crate::gvr::{Gvk, Gvr};
use crate::jsonpath::JsonPath;
use crate::schema::{Resource, Subresource};
use crate::table::{self, Column};
use crate::{Value, json};

/// Verbs of custom resources in discovery's order, and which of them still work while the definition goes away.
const VERBS: [(&str, bool); 8] = [
    ("delete", true),
    ("deletecollection", true),
    ("get", true),
    ("list", true),
    ("patch", false),
    ("create", false),
    ("update", false),
    ("watch", true),
];

/// What a definition says of one version.
#[derive(Clone, Debug)]
pub struct Version {
    /// The resource in this version.
    pub resource: Arc<Resource>,
    /// It is served.
    pub served: bool,
    /// Objects are stored in it.
    pub storage: bool,
}

/// The versions of a definition under the names it was granted (`status.acceptedNames`), in its own order.
pub fn versions(definition: &Value, compile: Compile<'_>) -> Vec<Version> {
    let Some(spec) = definition.get("spec") else { return Vec::new() };
    let names = accepted(definition);
    let ending = definition.pointer("/metadata/deletionTimestamp").is_some();
    let version = |version: &Value| Version {
        resource: Arc::new(resource(spec, names, (version, ending), compile)),
        served: flag(version, "served"),
        storage: flag(version, "storage"),
    };
    values(spec, "versions").iter().map(version).collect()
}

/// The schemas of a definition's versions, and where they stand under its `spec`: one that all share is told once, where
/// version 1beta1 had it.
pub fn schemas<'v>(spec: &Path, versions: &'v [Value]) -> Vec<(Path, &'v Value)> {
    let schema = |version: &'v Value| version.pointer("/schema/openAPIV3Schema");
    let found: Vec<Option<&Value>> = versions.iter().map(schema).collect();
    let shared = found.iter().all(|schema| Some(schema) == found.first());
    let place = |index: usize| match shared {
        true => spec.child("validation"),
        false => spec.child("versions").index(index).child("schema"),
    };
    let taken = if shared { 1 } else { found.len() };
    let found = found.into_iter().enumerate().take(taken);
    found.filter_map(|(index, schema)| Some((place(index).child("openAPIV3Schema"), schema?))).collect()
}

fn accepted(definition: &Value) -> &Value {
    let accepted =
        definition.pointer("/status/acceptedNames").filter(|names| !text(names, "plural").is_empty());
    accepted.or_else(|| definition.pointer("/spec/names")).unwrap_or(&Value::Null)
}

fn resource(
    spec: &Value,
    names: &Value,
    (version, ending): (&Value, bool),
    compile: Compile<'_>,
) -> Resource {
    let (group, name, kind) = (text(spec, "group"), text(version, "name"), text(names, "kind"));
    let document = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_else(|| json!({}));
    let node = Node::compile(&document);
    let gvk = Gvk::owned(group, name, kind);
    let (schema, object) = shape::of(&node, &struct_name(&gvk));
    let scale = version.pointer("/subresources/scale").and_then(scale_paths);
    let has_status = version.pointer("/subresources/status").is_some();
    let selectable = selectable(spec);
    let verbs = VERBS.iter().filter(|(_, stays)| *stays || !ending).map(|(verb, _)| Box::from(*verb));
    let texts = |name: &str| values(names, name).iter().filter_map(Value::as_str).map(Into::into).collect();
    Resource {
        gvr: Gvr::owned(group, name, text(names, "plural")),
        list_kind: list_kind(names, kind),
        singular: text(names, "singular").into(),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        namespaced: text(spec, "scope") == "Namespaced",
        verbs: verbs.collect(),
        subresources: subresources(&gvk, has_status, scale.is_some()),
        field_labels: selectable.clone(),
        field_paths: selectable,
        returned: false,
        object,
        schema: Arc::new(schema),
        custom: Some(Arc::new(Custom {
            node,
            expressions: compile(&document),
            document,
            columns: columns(version),
            scale,
            warning: warning(version, &gvk),
            webhook: webhook(spec),
        })),
        gvk,
    }
}

/// A kind's definition name in OpenAPI: the group's parts reversed, as `com.example.v1.Widget`.
pub fn struct_name(gvk: &Gvk) -> String {
    let group: Vec<&str> = gvk.group.split('.').rev().collect();
    format!("{}.{}.{}", group.join("."), gvk.version, gvk.kind)
}

fn list_kind(names: &Value, kind: &str) -> Box<str> {
    match text(names, "listKind") {
        "" => format!("{kind}List").into(),
        given => given.into(),
    }
}

fn subresources(gvk: &Gvk, status: bool, scale: bool) -> Box<[Subresource]> {
    let verbs = || ["get", "patch", "update"].map(Box::from).into();
    let of = |name: &str, gvk: Gvk| Subresource { name: name.into(), gvk, verbs: verbs() };
    let status = status.then(|| of("status", gvk.clone()));
    let scale = scale.then(|| of("scale", Gvk::new("autoscaling", "v1", "Scale")));
    status.into_iter().chain(scale).collect()
}

fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    let path = |name: &str| field_path(text(scale, name));
    Some(ScalePaths {
        spec: path("specReplicasPath")?,
        status: path("statusReplicasPath")?,
        selector: path("labelSelectorPath"),
    })
}

/// The names in a path that is only fields, as `.spec.replicas`.
fn field_path(text: &str) -> Option<FieldPath> {
    let path = JsonPath::parse(text).ok().filter(|_| !text.is_empty())?;
    Some(path.fields()?.into_iter().map(Into::into).collect())
}

/// Of all versions, in one order: objects are selected as they are stored.
fn selectable(spec: &Value) -> Box<[Box<str>]> {
    let fields = values(spec, "versions").iter().flat_map(|version| values(version, "selectableFields"));
    let paths = fields.filter_map(|field| text(field, "jsonPath").strip_prefix('.')).map(Box::from);
    paths.collect::<BTreeSet<Box<str>>>().into_iter().collect()
}

fn columns(version: &Value) -> Box<[Column]> {
    let given = values(version, "additionalPrinterColumns").iter().filter_map(|column| {
        let path = JsonPath::parse(text(column, "jsonPath")).ok()?;
        let priority = column.get("priority").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
        let of = |name| text(column, name);
        let (name, kind, format) = (of("name"), of("type"), of("format"));
        Some(Column::custom(name, kind, format, of("description"), priority.unwrap_or(0), path))
    });
    table::with_name(given)
}

fn warning(version: &Value, gvk: &Gvk) -> Option<Box<str>> {
    let own = text(version, "deprecationWarning");
    match (flag(version, "deprecated"), own) {
        (false, _) => None,
        (true, "") => Some(format!("{} {} is deprecated", gvk.api_version(), gvk.kind).into()),
        (true, own) => Some(own.into()),
    }
}

fn webhook(spec: &Value) -> Option<Value> {
    let conversion = spec.get("conversion")?;
    let mut found = fields(conversion, "webhook");
    (text(conversion, "strategy") == "Webhook" && found.next().is_some())
        .then(|| conversion.get("webhook").cloned())
        .flatten()
}
