//! Structural schemas: what a CustomResourceDefinition says about the objects of one version, compiled once.
//!
//! - [`Node::compile`] reads `openAPIV3Schema` as it is given; [`judge`] says whether it is structural.
//! - [`prune`] drops what the schema does not name, [`fill`] puts defaults in, [`check`] tells what breaks its rules: in
//!   this order, as kube-apiserver does, and with its words.
//! - [`versions`] makes the [`crate::schema::Resource`]s of a definition.
//! - [`shape::of`] makes the [`crate::schema::Schema`] that server-side apply and selectors walk.
//!
//! Custom resources have a schema of their own beside that of built-in kinds, because they mean other things: a value of
//! the wrong type is no decoding error but a broken rule, zeros and empty lists stay, null can be a value, and rules
//! nest (`anyOf`, `not`).
//!
//! Source: "Extend the Kubernetes API with CustomResourceDefinitions", KEP-1693 (structural schemas, pruning, defaults).

mod check;
mod compile;
mod definition;
mod fill;
mod formats;
mod judge;
mod prune;
mod read;
pub mod shape;
#[cfg(test)]
mod tests;
mod versions;

pub use check::check;
pub use definition::{Version, schemas, struct_name, versions};
pub use fill::fill;
pub use judge::judge;
pub use prune::prune;
pub use versions::{is_of, to_version, up_to_date};

use std::sync::Arc;

use regex::Regex;

use crate::field::Errors;
use crate::schema::ListKind;
use crate::table::Column;
use crate::{Number, Value};

/// What a custom resource adds to a [`crate::schema::Resource`].
#[derive(Debug)]
pub struct Custom {
    /// The compiled schema of its objects.
    pub node: Node,
    /// The same as its definition gives it, for OpenAPI documents.
    pub document: Value,
    /// Columns of its tables, beside the name.
    pub columns: Box<[Column]>,
    /// Where the `scale` subresource finds its numbers, if there is one.
    pub scale: Option<ScalePaths>,
    /// What clients of this version are warned of: it is deprecated.
    pub warning: Option<Box<str>>,
    /// Its `x-kubernetes-validations`, if it has any.
    pub expressions: Option<Arc<dyn Expressions>>,
    /// Who converts between versions: the definition's `spec.conversion.webhook`; `None` changes `apiVersion` alone.
    pub webhook: Option<Value>,
}

impl PartialEq for Custom {
    /// All else is made of what is compared.
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document && self.scale == other.scale && self.webhook == other.webhook
    }
}

/// Rules of a schema in an expression language. Whoever knows the language compiles them.
pub trait Expressions: std::fmt::Debug + Send + Sync {
    /// Judges an object that keeps to all else; `old`: the version it changes.
    fn check(&self, object: &Value, old: Option<&Value>) -> Errors;
}

/// Compiles the rules of an `openAPIV3Schema`; `None` if there are none.
pub type Compile<'c> = &'c dyn Fn(&Value) -> Option<Arc<dyn Expressions>>;

/// Field names from the object down.
pub type FieldPath = Box<[Box<str>]>;

/// `spec.versions[*].subresources.scale` of a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePaths {
    /// `specReplicasPath`
    pub spec: FieldPath,
    /// `statusReplicasPath`
    pub status: FieldPath,
    /// `labelSelectorPath`: a text there.
    pub selector: Option<FieldPath>,
}

/// What may stand at one place.
#[derive(Debug, Default)]
pub struct Node {
    /// `type`; `None` for any.
    pub kind: Option<Kind>,
    /// Null is a value.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`: fields that are not named here stay.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: has `apiVersion`, `kind` and `metadata` of its own.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// What an absent value becomes.
    pub default: Option<Value>,
    /// Named fields, in order of their names.
    pub properties: Box<[(Box<str>, Node)]>,
    /// Fields of any other name.
    pub additional: Additional,
    /// Items of a list.
    pub items: Option<Box<Node>>,
    /// `x-kubernetes-list-type` and `x-kubernetes-list-map-keys`.
    pub list: Option<ListKind>,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    /// What a value must be beyond its type.
    pub rules: Rules,
    /// There is a default here or below.
    pub fills: bool,
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub enum Additional {
    /// There are no others.
    #[default]
    None,
    /// Anything.
    Any,
    /// All of one schema.
    Of(Box<Node>),
}

/// `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

/// Value validation, in OpenAPI's names.
#[derive(Debug, Default)]
pub struct Rules {
    /// `required`
    pub required: Box<[Box<str>]>,
    /// `enum`
    pub allowed: Box<[Value]>,
    /// `format`
    pub format: Option<Box<str>>,
    /// `pattern`; one that cannot be compiled matches nothing, and is told when the definition is written.
    pub pattern: Option<(Box<str>, Option<Regex>)>,
    /// `maximum` and whether it is excluded.
    pub maximum: Option<(Number, bool)>,
    /// `minimum` and whether it is excluded.
    pub minimum: Option<(Number, bool)>,
    /// `multipleOf`
    pub multiple_of: Option<Number>,
    /// `minLength` and `maxLength`, in characters.
    pub length: Range,
    /// `minItems` and `maxItems`
    pub items: Range,
    /// `minProperties` and `maxProperties`
    pub properties: Range,
    /// `allOf`
    pub all_of: Box<[Node]>,
    /// `anyOf`
    pub any_of: Box<[Node]>,
    /// `oneOf`
    pub one_of: Box<[Node]>,
    /// `not`
    pub not: Option<Box<Node>>,
}

/// A least and a greatest number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// At least so many.
    pub min: Option<u64>,
    /// At most so many.
    pub max: Option<u64>,
}

impl Node {
    /// The schema of a named field.
    pub fn property(&self, name: &str) -> Option<&Node> {
        let at = self.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.properties.get(at).map(|(_, node)| node)
    }

    /// The schema of a field, named or additional.
    pub fn field(&self, name: &str) -> Option<&Node> {
        match (&self.additional, self.property(name)) {
            (Additional::Of(node), None) => Some(node),
            (_, named) => named,
        }
    }
}

impl Kind {
    const ALL: [(&'static str, Self); 6] = [
        ("object", Self::Object),
        ("array", Self::Array),
        ("string", Self::String),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}
