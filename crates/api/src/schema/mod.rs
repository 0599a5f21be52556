//! The shape of kinds in memory: built-in kinds from the committed table, custom ones from their OpenAPI schema.
//!
//! - A [`Schema`] owns its structs in one arena; a [`Type`] names a struct by index, so recursion is no cycle.
//! - Every algorithm over objects (prune, default, validate, patch, apply, protobuf, OpenAPI, Table) walks this.
//! - A [`Resource`] is what is served: names, scope, verbs, subresources, and the struct of its objects.
//! - [`builtin`] is the catalog of everything Kubernetes itself serves.

#[cfg(test)]
pub(crate) mod arbitrary;
mod catalog;
mod fields;
#[cfg(test)]
mod laws;
mod names;
mod table;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, builtin, version_rank};
pub use fields::Fields;
pub(crate) use table::RULES;

use std::sync::Arc;

use crate::{Text, Value};

use crate::gvr::{Gvk, Gvr};
use crate::structural::Custom;

/// Index of a struct in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(pub u32);

/// The shape of one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// Floating-point number.
    Double,
    /// Base64 text.
    Bytes,
    /// Number or text (`intstr.IntOrString`).
    IntOrString,
    /// `resource.Quantity`.
    Quantity,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 with six digits.
    MicroTime,
    /// A text such as `1h30m` (`metav1.Duration`).
    Duration,
    /// Any JSON (`RawExtension`, `JSON`, unknown-preserving objects).
    Any,
    /// `metav1.FieldsV1`.
    FieldsV1,
    /// An object with named fields.
    Struct(StructId),
    /// A list.
    List(Box<List>),
    /// An object with free keys.
    Map(Box<Type>),
}

/// A list's items and how it merges.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// Shape of an item.
    pub item: Type,
    /// How server-side apply owns it (`x-kubernetes-list-type`).
    pub kind: ListKind,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Owned as a whole.
    Atomic,
    /// Owned by value.
    Set,
    /// Owned by the values of these keys of an item.
    Map(Box<[Box<str>]>),
}

/// One object type.
#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    /// OpenAPI definition name, as `io.k8s.api.core.v1.Container`.
    pub name: Box<str>,
    /// Fields in order of their JSON names.
    pub fields: Fields,
    /// `x-kubernetes-map-type: atomic`: server-side apply owns it as a whole.
    pub atomic: bool,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
}

/// One field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// JSON name.
    pub name: Text,
    /// Shape.
    pub ty: Type,
    /// Must be present.
    pub required: bool,
    /// Value when absent.
    pub default: Option<Value>,
    /// Closed set of values; empty when open.
    pub allowed: Box<[Box<str>]>,
    /// Server-side apply owns the value as a whole, or not, against what its type says (`x-kubernetes-map-type` on
    /// the field).
    pub atomic: Option<bool>,
    /// How strategic merge patch treats it.
    pub patch: Patch,
    /// Where protobuf keeps it; `None` for kinds without protobuf.
    pub proto: Option<Proto>,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Lists merge by this key of their items; `Some("")` merges a list of plain values as a set.
    pub merge_key: Option<Box<str>>,
    /// `retainKeys`: only keys named in the patch stay.
    pub retain_keys: bool,
    /// `replace`: the patch's value takes the place of the present one.
    pub replace: bool,
}

/// Place of a field in protobuf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proto {
    /// Field numbers from the struct's message down: more than one when a Go-embedded struct is flattened in JSON
    /// but nested in protobuf.
    pub path: Box<[u32]>,
    /// A zero differs from absence: Go holds the field behind a pointer, or writes it always.
    pub keeps_zero: bool,
}

/// A resource as the API serves it in one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Group, version, plural.
    pub gvr: Gvr,
    /// Kind of its objects.
    pub gvk: Gvk,
    /// Kind of its lists.
    pub list_kind: Box<str>,
    /// Singular name.
    pub singular: Box<str>,
    /// Short names for the command line.
    pub short_names: Box<[Box<str>]>,
    /// Such as `all`.
    pub categories: Box<[Box<str>]>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs in discovery's order: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: Box<[Box<str>]>,
    /// Subresources.
    pub subresources: Box<[Subresource]>,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`, as `spec.nodeName`.
    pub field_labels: Box<[Box<str>]>,
    /// Where the value of each of `field_labels` stands in an object; mostly the label itself.
    pub field_paths: Box<[Box<str>]>,
    /// A deletion answers with the object that is gone, and not with a `Status`.
    pub returned: bool,
    /// Struct of its objects.
    pub object: StructId,
    /// The arena that `object` is in.
    pub schema: Arc<Schema>,
    /// What a custom resource adds; `None` for Kubernetes' own.
    pub custom: Option<Arc<Custom>>,
}

/// A subresource in discovery.
#[derive(Clone, Debug, PartialEq)]
pub struct Subresource {
    /// As `status`.
    pub name: Box<str>,
    /// Kind of its bodies, as `autoscaling/v1 Scale`.
    pub gvk: Gvk,
    /// Verbs.
    pub verbs: Box<[Box<str>]>,
}

/// Arena of structs.
#[derive(Debug, Default, PartialEq)]
pub struct Schema {
    /// All structs; [`StructId`] is the index.
    pub structs: Vec<Struct>,
}

impl Schema {
    /// The struct of an id that this schema handed out.
    pub fn get(&self, id: StructId) -> &Struct {
        &self.structs[id.0 as usize]
    }
}

impl Struct {
    /// `core.v1.Container` of `io.k8s.api.core.v1.Container`: how the hand-written files name types.
    pub fn short_name(&self) -> &str {
        let start = self.name.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
        self.name.get(start..).unwrap_or_default()
    }

    /// The field of a JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.named(name)
    }
}

impl Resource {
    /// The struct of its objects.
    pub fn root(&self) -> &Struct {
        self.schema.get(self.object)
    }

    /// Whether discovery lists the verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v.as_ref() == verb)
    }

    /// The values of `field_labels` in an object, in that order: what a field selector compares. An absent field has
    /// its type's zero value, as Go's selectors see it: `""`, `0` or `false`.
    pub fn selectable(&self, object: &Value) -> Box<[Box<str>]> {
        self.field_paths.iter().map(|path| self.select(object, path)).collect()
    }

    fn select(&self, object: &Value, path: &str) -> Box<str> {
        let found = path.split('.').try_fold(object, |at, key| at.get(key));
        match found {
            Some(Value::String(text)) => text.as_str().into(),
            Some(Value::Bool(_) | Value::Number(_)) => found.map(Value::to_string).unwrap_or_default().into(),
            _ => self.zero(path).into(),
        }
    }

    fn zero(&self, path: &str) -> &'static str {
        let mut at = &Type::Struct(self.object);
        for key in path.split('.') {
            let Type::Struct(id) = at else { return "" };
            let Some(field) = self.schema.get(*id).field(key) else { return "" };
            at = &field.ty;
        }
        match at {
            Type::Bool => "false",
            Type::Int32 | Type::Int64 => "0",
            _ => "",
        }
    }

    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name.as_ref() == name)
    }
}
