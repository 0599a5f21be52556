//! Whether a schema is structural: judged when its definition is written, in kube-apiserver's words.
//!
//! A structural schema names the type of every place once, outside of `allOf`, `anyOf`, `oneOf` and `not`, so that
//! pruning and defaults have one meaning. These four may only restrict what stands outside.

use super::Node;
use super::read::{fields, flag, text, values};
use crate::field::{Error, Errors, Path};
use crate::{Map, Value};

/// Where in a schema its part stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Keywords that structural schemas do not have.
const NEVER: [(&str, &str); 7] = [
    ("$ref", "$ref is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("id", "id is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("$schema", "$schema is not supported"),
];

/// Keywords that may not stand in `allOf`, `anyOf`, `oneOf` and `not`.
const OUTSIDE: [(&str, &str); 12] = [
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("description", "must be empty to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    ("nullable", "must be false to be structural"),
    ("title", "must be empty to be structural"),
    ("type", "must be empty to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
];

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const LIST_TYPES: [&str; 3] = ["atomic", "map", "set"];
const MAP_TYPES: [&str; 2] = ["atomic", "granular"];

/// Judges an `openAPIV3Schema` that stands at a path.
pub fn judge(at: &Path, schema: &Value) -> Errors {
    let mut errors = Errors::new();
    judge_node(at, schema, Level::Root, &mut errors);
    errors
}

fn judge_node(at: &Path, schema: &Value, level: Level, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    keywords(at, schema, errors);
    types(at, schema, level, errors);
    extensions(at, schema, errors);
    lists(at, schema, errors);
    defaults(at, schema, level, errors);
    nested(at, schema, errors);
    if level == Level::Root || flag(schema, "x-kubernetes-embedded-resource") {
        metadata(at, schema, level, errors);
    }
    if let Some(items) = schema.get("items") {
        judge_node(&at.child("items"), items, Level::Item, errors);
    }
    for (name, property) in fields(schema, "properties") {
        judge_node(&at.child("properties").key(name), property, Level::Field, errors);
    }
    if let Some(other @ Value::Object(_)) = schema.get("additionalProperties") {
        judge_node(&at.child("additionalProperties"), other, Level::Field, errors);
    }
}

fn keywords(at: &Path, schema: &Value, errors: &mut Errors) {
    for (name, why) in NEVER {
        if schema.get(name).is_some_and(|value| !value.is_null()) {
            errors.push(Error::forbidden(&at.child(name), why));
        }
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&at.child("uniqueItems"), why));
    }
    let additional = schema.get("additionalProperties");
    if additional == Some(&Value::Bool(false)) {
        let why = "additionalProperties cannot be set to false";
        errors.push(Error::forbidden(&at.child("additionalProperties"), why));
    }
    if additional.is_some() && fields(schema, "properties").next().is_some() {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(Error::forbidden(&at.child("additionalProperties"), why));
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = regex::Regex::new(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(Error::invalid(&at.child("pattern"), pattern, &why));
    }
}

fn types(at: &Path, schema: &Value, level: Level, errors: &mut Errors) {
    let (kind, here) = (text(schema, "type"), at.child("type"));
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let free =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    match kind {
        "" if embedded => {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(Error::required(&here, why));
        }
        "" if !free => {
            let why = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            errors.push(Error::required(&here, why));
        }
        "" => {}
        kind if !TYPES.contains(&kind) => errors.push(Error::not_supported(&here, kind, &TYPES)),
        kind if embedded && kind != "object" => {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(Error::invalid(&here, kind, why));
        }
        kind if level == Level::Root && kind != "object" => {
            errors.push(Error::invalid(&here, kind, "must be object at the root"));
        }
        _ => {}
    }
    if kind == "array" && !schema.get("items").is_some_and(Value::is_object) {
        errors.push(Error::required(&at.child("items"), "must be specified"));
    }
    if level == Level::Root && schema.get("additionalProperties").is_some() {
        errors.push(Error::forbidden(&at.child("additionalProperties"), "must not be used at the root"));
    }
}

fn extensions(at: &Path, schema: &Value, errors: &mut Errors) {
    let (either, keeps) = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields");
    let embedded = "x-kubernetes-embedded-resource";
    if schema.get(keeps) == Some(&Value::Bool(false)) {
        errors.push(Error::invalid(&at.child(keeps), false, "must be true or undefined"));
    }
    for name in [keeps, embedded] {
        if flag(schema, either) && flag(schema, name) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(Error::invalid(&at.child(name), true, why));
        }
    }
    if flag(schema, embedded) && schema.get("additionalProperties").is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&at.child("additionalProperties"), why));
    }
    if flag(schema, embedded) && !flag(schema, keeps) && fields(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&at.child("properties"), why));
    }
    let map_type = text(schema, "x-kubernetes-map-type");
    if !map_type.is_empty() && !MAP_TYPES.contains(&map_type) {
        errors.push(Error::not_supported(&at.child("x-kubernetes-map-type"), map_type, &MAP_TYPES));
    }
    if !map_type.is_empty() && text(schema, "type") != "object" {
        let why = "must be object if x-kubernetes-map-type is specified";
        errors.push(Error::invalid(&at.child("type"), text(schema, "type"), why));
    }
}

fn lists(at: &Path, schema: &Value, errors: &mut Errors) {
    let (kind, keys) = (text(schema, "x-kubernetes-list-type"), values(schema, "x-kubernetes-list-map-keys"));
    let (kind_at, keys_at) = (at.child("x-kubernetes-list-type"), at.child("x-kubernetes-list-map-keys"));
    if !kind.is_empty() && !LIST_TYPES.contains(&kind) {
        errors.push(Error::not_supported(&kind_at, kind, &LIST_TYPES));
    }
    if !kind.is_empty() && text(schema, "type") != "array" {
        let why = "must be array if x-kubernetes-list-type is specified";
        errors.push(Error::invalid(&at.child("type"), text(schema, "type"), why));
    }
    if kind != "map" {
        if !keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(match kind {
                "" => Error::required(&kind_at, why),
                kind => Error::invalid(&kind_at, kind, why),
            });
        }
        return;
    }
    if keys.is_empty() {
        errors.push(Error::required(&keys_at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(items) = schema.get("items") else { return };
    if text(items, "type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&at.child("items").child("type"), text(items, "type"), why));
    }
    let required = values(items, "required");
    for (index, key) in keys.iter().enumerate() {
        let here = keys_at.index(index);
        let Some(property) = key.as_str().and_then(|key| items.get("properties")?.get(key)) else {
            let why = "entries must all be names of item properties";
            errors.push(Error::invalid(&here, key.clone(), why));
            continue;
        };
        if matches!(text(property, "type"), "object" | "array") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            let path = at.child("items").child("properties").key(key.as_str().unwrap_or_default());
            errors.push(Error::invalid(&path.child("type"), text(property, "type"), why));
        }
        if !required.contains(key) && property.get("default").is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            let path = at.child("items").child("properties").key(key.as_str().unwrap_or_default());
            errors.push(Error::required(&path.child("default"), why));
        }
    }
}

/// A default keeps to its own schema.
fn defaults(at: &Path, schema: &Value, level: Level, errors: &mut Errors) {
    let Some(default) = schema.get("default") else { return };
    let here = at.child("default");
    if level == Level::Root {
        errors.push(Error::forbidden(&here, "must not be set at the root"));
        return;
    }
    let node = Node::compile(schema);
    let mut pruned = default.clone();
    let unknown = super::prune(&node, &mut pruned).unwrap_or_default();
    if node.is_object() && !unknown.is_empty() && !node.embedded {
        errors.push(Error::invalid(&here, default.clone(), "must not have unknown fields"));
    }
    errors.extend(node.takes(&here, default));
}

/// What stands in `allOf`, `anyOf`, `oneOf` and `not`.
fn nested(at: &Path, schema: &Value, errors: &mut Errors) {
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in values(schema, name).iter().enumerate() {
            let either = flag(schema, "x-kubernetes-int-or-string");
            let first = name == "allOf" && index == 0;
            // How generators have always said "integer or string".
            if either && (is_either(schema, name) || first && is_either(inner, "anyOf")) {
                continue;
            }
            restricts(&at.child(name).index(index), inner, schema, errors);
        }
    }
    if let Some(inner) = schema.get("not") {
        restricts(&at.child("not"), inner, schema, errors);
    }
}

/// `anyOf: [{type: integer}, {type: string}]`
fn is_either(schema: &Value, name: &str) -> bool {
    let kinds: Vec<&str> = values(schema, name).iter().map(|inner| text(inner, "type")).collect();
    name == "anyOf" && kinds == ["integer", "string"]
}

/// A nested schema restricts what stands outside, `outer`, and says nothing new.
fn restricts(at: &Path, inner: &Value, outer: &Value, errors: &mut Errors) {
    for (name, why) in OUTSIDE {
        let said = match inner.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if said {
            errors.push(Error::forbidden(&at.child(name), why));
        }
    }
    for (name, property) in fields(inner, "properties") {
        let here = at.child("properties").key(name);
        if name == "metadata" {
            errors.push(Error::forbidden(&here, "must not be specified in a nested context"));
        }
        match outer.get("properties").and_then(|properties| properties.get(name)) {
            Some(outer) => restricts(&here, property, outer, errors),
            None => {
                let outside = complete_path(at).child("properties").key(name);
                let why = format!("because it is defined in {here}");
                errors.push(Error::required(&outside, &why));
            }
        }
    }
    if let Some(items) = inner.get("items") {
        restricts(&at.child("items"), items, outer.get("items").unwrap_or(&Value::Null), errors);
    }
    nested_again(at, inner, outer, errors);
}

fn nested_again(at: &Path, inner: &Value, outer: &Value, errors: &mut Errors) {
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, more) in values(inner, name).iter().enumerate() {
            restricts(&at.child(name).index(index), more, outer, errors);
        }
    }
    if let Some(more) = inner.get("not") {
        restricts(&at.child("not"), more, outer, errors);
    }
}

/// The place outside of all alternatives: `a.anyOf[0]` is `a`.
fn complete_path(at: &Path) -> Path {
    let text = at.as_str();
    let ends = [".allOf[", ".anyOf[", ".oneOf[", ".not"].iter().filter_map(|word| text.find(word)).min();
    Path::new(ends.and_then(|end| text.get(..end)).unwrap_or(text))
}

/// What a schema may say about the parts that every object has.
fn metadata(at: &Path, schema: &Value, level: Level, errors: &mut Errors) {
    let properties = at.child("properties");
    for name in ["apiVersion", "kind"] {
        let found = schema.get("properties").and_then(|properties| properties.get(name));
        if let Some(kind) = found.map(|found| text(found, "type")).filter(|kind| *kind != "string") {
            errors.push(Error::invalid(&properties.key(name).child("type"), kind, "must be string"));
        }
    }
    let Some(of) = schema.get("properties").and_then(|properties| properties.get("metadata")) else { return };
    let here = properties.key("metadata");
    if text(of, "type") != "object" {
        errors.push(Error::invalid(&here.child("type"), text(of, "type"), "must be object"));
    }
    let more = fields(of, "properties").any(|(name, _)| !matches!(name, "name" | "generateName"));
    let restricting = of.as_object().into_iter().flat_map(Map::iter);
    let mut others =
        restricting.filter(|(name, _)| !matches!(name.as_str(), "type" | "properties" | "description"));
    if level == Level::Root && (more || others.next().is_some()) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Error::forbidden(&here, why));
    }
}
