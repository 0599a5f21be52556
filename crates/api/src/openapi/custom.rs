//! Schemas of custom resources as OpenAPI publishes them: what their definition says, with the parts that every object
//! has, and in version 2 without what that cannot say.
//!
//! kubectl before 1.27 checks objects by version 2 and rejects fields that it does not find there. So where unknown fields
//! are kept nothing is said of known ones.

use super::schemas::{Dialect, kind};
use super::write::Json;
use crate::gvr::Gvk;
use crate::schema::Resource;
use crate::structural::{Custom, struct_name};
use crate::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should \
     convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this \
     from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const STANDARD: &str = "Standard object's metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_STANDARD: &str = "Standard list metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
/// What version 2 has no words for.
const NOT_IN_V2: [&str; 6] = ["allOf", "anyOf", "externalDocs", "not", "nullable", "oneOf"];

/// The kind of a resource's lists.
pub fn list_kind(resource: &Resource) -> Gvk {
    Gvk { kind: resource.list_kind.to_string().into(), ..resource.gvk.clone() }
}

/// Writes the schemas of a resource's objects and lists.
pub fn write(out: &mut Json, dialect: Dialect, prefix: &str, resource: &Resource, custom: &Custom) {
    let name = struct_name(&resource.gvk);
    let schema = of_object(dialect, prefix, custom);
    write_kind(out, &name, schema, &resource.gvk);
    let list = list_kind(resource);
    let items = json!({"description": format!("List of {}.", resource.gvr.resource),
        "type": "array", "items": reference(dialect, prefix, &name)});
    let mut fields = common(dialect, prefix, "ListMeta", LIST_STANDARD);
    fields.insert("items".into(), items);
    let schema = json!({"description": format!("{} is a list of {}", list.kind, resource.gvk.kind),
        "type": "object", "required": ["items"], "properties": fields});
    write_kind(out, &struct_name(&list), schema, &list);
}

fn write_kind(out: &mut Json, name: &str, schema: Value, gvk: &Gvk) {
    let Value::Object(fields) = schema else { return };
    out.key(name).object(|out| {
        fields.iter().for_each(|(name, value)| out.raw_pair(name, &value.to_string()));
        out.key("x-kubernetes-group-version-kind").list(|out| kind(out, gvk));
    });
}

fn of_object(dialect: Dialect, prefix: &str, custom: &Custom) -> Value {
    let mut schema = custom.document.clone();
    if dialect == Dialect::V2 {
        without_v3(&mut schema);
    }
    embed(dialect, prefix, &mut schema);
    let free = dialect == Dialect::V2 && custom.node.preserve_unknown;
    if !free {
        add_common(dialect, prefix, &mut schema);
    }
    schema
}

/// `apiVersion`, `kind` and `metadata` of an object.
fn add_common(dialect: Dialect, prefix: &str, schema: &mut Value) {
    let common = common(dialect, prefix, "ObjectMeta", STANDARD);
    let Some(schema) = schema.as_object_mut() else { return };
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        for (name, value) in common {
            properties.insert(name, value);
        }
    }
}

fn common(dialect: Dialect, prefix: &str, meta: &str, about: &str) -> Map {
    let mut metadata = reference(dialect, prefix, &format!("{META}.{meta}"));
    metadata["description"] = about.into();
    let fields = json!({
        "apiVersion": {"description": API_VERSION, "type": "string"},
        "kind": {"description": KIND, "type": "string"},
        "metadata": metadata,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Beside a reference OpenAPI 3 allows nothing else, so there it stands in `allOf`.
fn reference(dialect: Dialect, prefix: &str, name: &str) -> Value {
    let target = json!({"$ref": format!("{prefix}{name}")});
    match dialect {
        Dialect::V2 => target,
        Dialect::V3 => json!({"allOf": [target]}),
    }
}

/// Objects in objects have the common parts too.
fn embed(dialect: Dialect, prefix: &str, schema: &mut Value) {
    below(schema, &mut |child| {
        embed(dialect, prefix, child);
        let embedded = child.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        if embedded && (dialect == Dialect::V3 || child.get("properties").is_some()) {
            add_common(dialect, prefix, child);
        }
    });
}

fn without_v3(schema: &mut Value) {
    let is = |schema: &Value, name: &str| schema.get(name) == Some(&Value::Bool(true));
    let nullable = is(schema, "nullable");
    let free = is(schema, "x-kubernetes-preserve-unknown-fields");
    let either = is(schema, "x-kubernetes-int-or-string");
    if let Some(fields) = schema.as_object_mut() {
        let mut gone: Vec<&str> = NOT_IN_V2.to_vec();
        if nullable || free {
            gone.extend(["items", "properties"]);
        }
        if nullable || either {
            gone.push("type");
        }
        gone.into_iter().for_each(|name| drop(fields.remove(name)));
    }
    below(schema, &mut without_v3);
}

fn below(schema: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.iter_mut().for_each(|(_, child)| change(child));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(name).filter(|child| child.is_object()) {
            change(child);
        }
    }
}
