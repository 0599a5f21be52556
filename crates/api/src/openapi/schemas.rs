//! Types as OpenAPI schemas, for both versions of OpenAPI.

use std::collections::BTreeMap;

use super::write::Json;
use crate::descriptions::{Description, Descriptions};
use crate::gvr::Gvk;
use crate::schema::{Field, List, ListKind, Schema, Struct, StructId, Type};

/// Which OpenAPI is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

/// Types that are values: their OpenAPI name, and their schema in version 2 and 3.
const SCALARS: [(&str, &str, &str); 5] = [
    (
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        r#""type":"string""#,
        r#""oneOf":[{"type":"string"},{"type":"number"}]"#,
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", r#""type":"object""#, r#""type":"object""#),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        r#""type":"string","format":"date-time""#,
        r#""type":"string","format":"date-time""#,
    ),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        r#""type":"string","format":"date-time""#,
        r#""type":"string","format":"date-time""#,
    ),
    (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        r#""type":"string","format":"int-or-string""#,
        r#""format":"int-or-string","oneOf":[{"type":"integer"},{"type":"string"}]"#,
    ),
];
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Kinds of a type: most have none, a few (`DeleteOptions`) many.
pub type KindsOf<'a> = dyn Fn(&str) -> Vec<Gvk> + 'a;

/// Writes the schemas of types.
pub struct Writer<'a> {
    /// Which OpenAPI.
    pub dialect: Dialect,
    /// Texts.
    pub descriptions: &'a Descriptions,
    /// What `x-kubernetes-group-version-kind` says of a type.
    pub kinds_of: &'a KindsOf<'a>,
}

/// All structs that are reached from some roots, by name. Each comes with the arena it is in.
pub fn reachable<'a>(
    roots: impl IntoIterator<Item = (&'a Schema, StructId)>,
) -> BTreeMap<&'a str, (&'a Schema, &'a Struct)> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(&Schema, StructId)> = roots.into_iter().collect();
    while let Some((schema, id)) = open.pop() {
        let record = schema.get(id);
        if found.insert(record.name.as_ref(), (schema, record)).is_none() {
            open.extend(record.fields.iter().filter_map(|field| Some((schema, struct_of(&field.ty)?))));
        }
    }
    found
}

fn struct_of(ty: &Type) -> Option<StructId> {
    match ty {
        Type::Struct(id) => Some(*id),
        Type::List(list) => struct_of(&list.item),
        Type::Map(item) => struct_of(item),
        _ => None,
    }
}

impl Writer<'_> {
    /// Where references point.
    pub fn prefix(&self) -> &'static str {
        match self.dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        }
    }

    /// Writes `"name": {schema}` for structs and for the value types.
    pub fn all(&self, out: &mut Json, structs: &BTreeMap<&str, (&Schema, &Struct)>) {
        for (name, (schema, record)) in structs {
            out.key(name).object(|out| self.record(out, schema, record));
        }
        for (name, v2, v3) in SCALARS {
            let body = if self.dialect == Dialect::V2 { v2 } else { v3 };
            let text = self.descriptions.of(name).own();
            out.raw_pair(name, &format!(r#"{{"description":"{text}",{body}}}"#));
        }
        let text = "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.";
        out.raw_pair(PATCH, &format!(r#"{{"description":"{text}","type":"object"}}"#));
    }

    fn record(&self, out: &mut Json, schema: &Schema, record: &Struct) {
        let texts = self.descriptions.of(&record.name);
        out.description(texts.own());
        if !record.fields.is_empty() {
            out.key("properties").object(|out| {
                for field in &record.fields {
                    out.key(&field.name).object(|out| self.field(out, schema, field, texts));
                }
            });
        }
        let required: Vec<&str> =
            record.fields.iter().filter(|f| f.required).map(|f| f.name.as_ref()).collect();
        if !required.is_empty() {
            out.strings("required", required);
        }
        out.pair("type", "object");
        if record.atomic {
            out.pair("x-kubernetes-map-type", "atomic");
        }
        if record.preserve_unknown {
            out.raw_pair("x-kubernetes-preserve-unknown-fields", "true");
        }
        let kinds = (self.kinds_of)(&record.name);
        if !kinds.is_empty() {
            out.key("x-kubernetes-group-version-kind")
                .list(|out| kinds.iter().for_each(|gvk| kind(out, gvk)));
        }
    }

    fn field(&self, out: &mut Json, schema: &Schema, field: &Field, texts: Description) {
        out.description(texts.field(&field.name));
        self.ty(out, schema, &field.ty);
        if let Some(default) = &field.default {
            out.raw_pair("default", &default.to_string());
        }
        match field.atomic {
            Some(true) => out.pair("x-kubernetes-map-type", "atomic"),
            Some(false) => out.pair("x-kubernetes-map-type", "granular"),
            None => {}
        }
        self.patch(out, field);
    }

    fn patch(&self, out: &mut Json, field: &Field) {
        let patch = &field.patch;
        if let Some(key) = patch.merge_key.as_deref().filter(|key| !key.is_empty()) {
            out.pair("x-kubernetes-patch-merge-key", key);
        }
        let words = [
            (patch.merge_key.is_some(), "merge"),
            (patch.retain_keys, "retainKeys"),
            (patch.replace, "replace"),
        ];
        let words: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        if !words.is_empty() {
            out.pair("x-kubernetes-patch-strategy", &words.join(","));
        }
    }

    fn ty(&self, out: &mut Json, schema: &Schema, ty: &Type) {
        match ty {
            Type::String | Type::Duration => out.pair("type", "string"),
            Type::Bool => out.pair("type", "boolean"),
            Type::Int32 => number(out, "integer", "int32"),
            Type::Int64 => number(out, "integer", "int64"),
            Type::Double => number(out, "number", "double"),
            Type::Bytes => number(out, "string", "byte"),
            Type::Quantity => self.reference(out, "io.k8s.apimachinery.pkg.api.resource.Quantity"),
            Type::IntOrString => self.reference(out, "io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
            Type::Time => self.reference(out, "io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
            Type::MicroTime => self.reference(out, "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
            Type::FieldsV1 => self.reference(out, "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
            Type::Any => out.raw_pair("x-kubernetes-preserve-unknown-fields", "true"),
            Type::Struct(id) => self.reference(out, &schema.get(*id).name),
            Type::Map(item) => {
                out.key("additionalProperties").object(|out| self.ty(out, schema, item));
                out.pair("type", "object");
            }
            Type::List(list) => self.items(out, schema, list),
        }
    }

    fn items(&self, out: &mut Json, schema: &Schema, list: &List) {
        out.key("items").object(|out| self.ty(out, schema, &list.item));
        out.pair("type", "array");
        match &list.kind {
            ListKind::Atomic => out.pair("x-kubernetes-list-type", "atomic"),
            ListKind::Set => out.pair("x-kubernetes-list-type", "set"),
            ListKind::Map(keys) => {
                out.strings("x-kubernetes-list-map-keys", keys.iter().map(AsRef::as_ref));
                out.pair("x-kubernetes-list-type", "map");
            }
        }
    }

    /// Beside a reference OpenAPI 3 allows nothing else, so there it stands in `allOf`.
    fn reference(&self, out: &mut Json, name: &str) {
        let target = format!("{}{name}", self.prefix());
        match self.dialect {
            Dialect::V2 => out.pair("$ref", &target),
            Dialect::V3 => out.key("allOf").list(|out| out.object(|out| out.pair("$ref", &target))),
        }
    }
}

fn number(out: &mut Json, ty: &str, format: &str) {
    out.pair("format", format);
    out.pair("type", ty);
}

/// `{"group": …, "kind": …, "version": …}`
pub fn kind(out: &mut Json, gvk: &Gvk) {
    out.object(|out| {
        out.pair("group", &gvk.group);
        out.pair("kind", &gvk.kind);
        out.pair("version", &gvk.version);
    });
}
