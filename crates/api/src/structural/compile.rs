//! From `openAPIV3Schema` to [`Node`]s. Nothing is refused here: what makes no sense restricts nothing, and
//! [`judge`](super::judge()) has told it when the definition was written.

use regex::Regex;

use super::read::{fields, flag, text, values};
use super::{Additional, Kind, Node, Range, Rules};
use crate::Value;
use crate::schema::ListKind;

impl Node {
    /// Compiles a schema.
    pub fn compile(schema: &Value) -> Self {
        let properties = children(schema, "properties");
        let additional = additional(schema.get("additionalProperties"));
        let items = schema.get("items").filter(|items| items.is_object()).map(|s| Box::new(Self::compile(s)));
        let default = schema.get("default").cloned();
        let below = properties.iter().map(|(_, node)| node).chain(items.as_deref());
        let fills = default.is_some() || below.chain(additional.node()).any(|node| node.fills);
        Self {
            kind: Kind::parse(text(schema, "type")),
            nullable: flag(schema, "nullable"),
            preserve_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            int_or_string: flag(schema, "x-kubernetes-int-or-string"),
            default,
            properties,
            additional,
            items,
            list: list(schema),
            atomic: text(schema, "x-kubernetes-map-type") == "atomic",
            rules: rules(schema),
            fills,
        }
    }
}

impl Additional {
    /// The schema of other fields, if they have one.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Of(node) => Some(node),
            _ => None,
        }
    }
}

fn children(schema: &Value, name: &str) -> Box<[(Box<str>, Node)]> {
    let mut nodes: Vec<(Box<str>, Node)> =
        fields(schema, name).map(|(name, schema)| (name.into(), Node::compile(schema))).collect();
    // They are found by halving.
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    nodes.into()
}

fn additional(schema: Option<&Value>) -> Additional {
    match schema {
        Some(Value::Bool(true)) => Additional::Any,
        Some(schema @ Value::Object(_)) => Additional::Of(Box::new(Node::compile(schema))),
        _ => Additional::None,
    }
}

fn list(schema: &Value) -> Option<ListKind> {
    let keys = || values(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
    match text(schema, "x-kubernetes-list-type") {
        "set" => Some(ListKind::Set),
        "map" => Some(ListKind::Map(keys().map(Into::into).collect())),
        "atomic" => Some(ListKind::Atomic),
        _ => None,
    }
}

fn rules(schema: &Value) -> Rules {
    let nodes = |name: &str| values(schema, name).iter().map(Node::compile).collect();
    let bound = |name: &str, excluded: &str| {
        schema.get(name).and_then(Value::as_number).map(|number| (number.clone(), flag(schema, excluded)))
    };
    let pattern = schema.get("pattern").and_then(Value::as_str).filter(|pattern| !pattern.is_empty());
    Rules {
        required: values(schema, "required").iter().filter_map(Value::as_str).map(Into::into).collect(),
        allowed: values(schema, "enum").into(),
        format: schema.get("format").and_then(Value::as_str).map(Into::into),
        pattern: pattern.map(|pattern| (pattern.into(), Regex::new(pattern).ok())),
        maximum: bound("maximum", "exclusiveMaximum"),
        minimum: bound("minimum", "exclusiveMinimum"),
        multiple_of: schema.get("multipleOf").and_then(Value::as_number).cloned(),
        length: range(schema, "minLength", "maxLength"),
        items: range(schema, "minItems", "maxItems"),
        properties: range(schema, "minProperties", "maxProperties"),
        all_of: nodes("allOf"),
        any_of: nodes("anyOf"),
        one_of: nodes("oneOf"),
        not: schema.get("not").map(|node| Box::new(Node::compile(node))),
    }
}

fn range(schema: &Value, min: &str, max: &str) -> Range {
    let number = |name: &str| schema.get(name).and_then(Value::as_u64);
    Range { min: number(min), max: number(max) }
}
