//! Whether an object keeps to its schema: types, bounds, patterns, nested alternatives, keys of lists.
//!
//! - All errors are collected, in order of the fields, worded as kube-openapi words them.
//! - Of a changed object only what changed is judged (KEP-4008, ratcheting): a rule that came later breaks nothing that
//!   is left as it was.

use std::collections::{HashMap, HashSet};

use super::{Kind, Node, Rules, formats};
use crate::Value;
use crate::field::{Error, Errors, Path};
use crate::schema::ListKind;

/// Checks an object; `old`: the version it changes.
pub fn check(node: &Node, object: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    value(&Path::default(), node, object, old, &mut errors);
    lists(&Path::default(), node, object, old, &mut errors);
    errors
}

fn value(at: &Path, node: &Node, value: &Value, old: Option<&Value>, errors: &mut Errors) {
    if old == Some(value) || errors.is_full() || (value.is_null() && node.nullable) {
        return;
    }
    has_type(at, node, value, errors);
    alternatives(at, &node.rules, value, errors);
    match value {
        Value::String(text) => string(at, &node.rules, text, errors),
        Value::Number(_) => number(at, &node.rules, value, errors),
        Value::Array(items) => array(at, node, items, old, errors),
        Value::Object(_) => object(at, node, value, old, errors),
        _ => {}
    }
    if !node.rules.allowed.is_empty() && !node.rules.allowed.contains(value) {
        let shown: Vec<String> = node.rules.allowed.iter().map(plainly).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        errors.push(Error::not_supported(at, value.clone(), &shown));
    }
}

/// A text without its quotes, anything else as JSON.
fn plainly(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn has_type(at: &Path, node: &Node, value: &Value, errors: &mut Errors) {
    let wanted = match (node.kind, node.int_or_string) {
        (_, true) => "integer,string",
        (Some(kind), _) => kind.name(),
        (None, _) => return,
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) if is_whole(number) => "integer",
        Value::Number(_) => "number",
    };
    let fits = wanted.split(',').any(|wanted| wanted == found) || (wanted, found) == ("number", "integer");
    if !fits {
        let why = format!("{at} in body must be of type {wanted}: {found:?}");
        errors.push(Error::type_invalid(at, found, &why));
    }
}

fn is_whole(number: &crate::Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

fn string(at: &Path, rules: &Rules, text: &str, errors: &mut Errors) {
    let length = || text.chars().count() as u64;
    if let Some(max) = rules.length.max.filter(|max| length() > *max) {
        errors.push(Error::too_long(at, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if let Some(min) = rules.length.min.filter(|min| length() < *min) {
        let why = format!("{at} in body should be at least {min} chars long");
        errors.push(Error::invalid(at, text, &why));
    }
    if let Some((pattern, compiled)) = &rules.pattern
        && !compiled.as_ref().is_some_and(|compiled| compiled.is_match(text))
    {
        errors.push(Error::invalid(at, text, &format!("{at} in body should match '{pattern}'")));
    }
    if let Some(format) = rules.format.as_deref().filter(|format| !formats::holds(format, text)) {
        let why = format!("{at} in body must be of type {format}: {text:?}");
        errors.push(Error::type_invalid(at, text, &why));
    }
}

fn number(at: &Path, rules: &Rules, value: &Value, errors: &mut Errors) {
    let Some(number) = value.as_f64() else { return };
    let mut refuse = |why: String| errors.push(Error::invalid(at, value.clone(), &why));
    if let Some((max, excluded)) = &rules.maximum {
        let bound = max.as_f64().unwrap_or(f64::MAX);
        if number > bound || (*excluded && number >= bound) {
            let than = if *excluded { "less than" } else { "less than or equal to" };
            refuse(format!("{at} in body should be {than} {max}"));
        }
    }
    if let Some((min, excluded)) = &rules.minimum {
        let bound = min.as_f64().unwrap_or(f64::MIN);
        if number < bound || (*excluded && number <= bound) {
            let than = if *excluded { "greater than" } else { "greater than or equal to" };
            refuse(format!("{at} in body should be {than} {min}"));
        }
    }
    if let Some(factor) = &rules.multiple_of {
        let times = number / factor.as_f64().unwrap_or(1.0);
        if times.fract() != 0.0 {
            refuse(format!("{at} in body should be a multiple of {factor}"));
        }
    }
    let fits = match rules.format.as_deref() {
        Some("int32") => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Some("int64") => value.as_i64().is_some() || is_whole_float(value),
        _ => true,
    };
    if !fits {
        let format = rules.format.as_deref().unwrap_or_default();
        refuse(format!("{at} in body must be of type {format}: {:?}", value.to_string()));
    }
}

fn is_whole_float(value: &Value) -> bool {
    value.as_f64().is_some_and(|float| float.fract() == 0.0 && float.abs() < 9.2e18)
}

fn array(at: &Path, node: &Node, items: &[Value], old: Option<&Value>, errors: &mut Errors) {
    let count = items.len();
    if let Some(min) = node.rules.items.min.filter(|min| (count as u64) < *min) {
        let why = format!("{at} in body should have at least {min} items");
        errors.push(Error::invalid(at, count as u64, &why));
    }
    if let Some(max) = node.rules.items.max.filter(|max| count as u64 > *max) {
        errors.push(Error::too_many(at, count, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    let Some(of) = &node.items else { return };
    let before = Before::of(node, old);
    for (index, item) in items.iter().enumerate() {
        value(&at.index(index), of, item, before.item(item), errors);
    }
}

/// The items of a list before a change, by their keys; those of lists without keys are not known again.
struct Before<'o> {
    keys: &'o [Box<str>],
    items: HashMap<String, &'o Value>,
}

impl<'o> Before<'o> {
    fn of(node: &'o Node, old: Option<&'o Value>) -> Self {
        let (Some(ListKind::Map(keys)), Some(Value::Array(old))) = (&node.list, old) else {
            return Self { keys: &[], items: HashMap::new() };
        };
        Self { keys, items: old.iter().map(|item| (identity(keys, item).to_string(), item)).collect() }
    }

    fn item(&self, item: &Value) -> Option<&'o Value> {
        if self.items.is_empty() {
            return None;
        }
        self.items.get(&identity(self.keys, item).to_string()).copied()
    }
}

/// The keys of an item, as an object.
fn identity(keys: &[Box<str>], item: &Value) -> Value {
    let key = |key: &str| Some((key.to_owned(), item.get(key)?.clone()));
    Value::Object(keys.iter().filter_map(|name| key(name)).collect())
}

fn object(at: &Path, node: &Node, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let Some(fields) = object.as_object() else { return };
    let count = fields.len();
    if let Some(min) = node.rules.properties.min.filter(|min| (count as u64) < *min) {
        let why = format!("{at} in body should have at least {min} properties");
        errors.push(Error::invalid(at, min, &why));
    }
    if let Some(max) = node.rules.properties.max.filter(|max| count as u64 > *max) {
        errors.push(Error::too_many(at, count, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    for name in node.rules.required.iter().filter(|name| !fields.contains_key(name)) {
        errors.push(Error::required(&at.child(name), ""));
    }
    if node.embedded {
        embedded(at, object, errors);
    }
    for (name, field) in fields.iter() {
        if let Some(node) = node.field(name) {
            value(&at.child(name), node, field, old.and_then(|old| old.get(name.as_str())), errors);
        }
    }
}

/// What is an object in an object says of which kind it is.
fn embedded(at: &Path, object: &Value, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        let text = object.get(name).and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() {
            errors.push(Error::required(&at.child(name), "must not be empty"));
        }
    }
}

fn alternatives(at: &Path, rules: &Rules, value: &Value, errors: &mut Errors) {
    let judge = |node: &Node| {
        let mut found = Errors::new();
        self::value(at, node, value, None, &mut found);
        found
    };
    // These have no place of their own, and Go prints none.
    let refuse = |errors: &mut Errors, why: &str| {
        let why = format!("{:?} {why}", at.as_str());
        errors.push(Error::invalid(&Path::new("<nil>"), "", &why));
    };
    if !rules.any_of.is_empty() {
        let found: Vec<Errors> = rules.any_of.iter().map(judge).collect();
        if !found.iter().any(|errors| errors.is_empty()) {
            refuse(errors, "must validate at least one schema (anyOf)");
            errors.extend(found.into_iter().min_by_key(|errors| errors.len()).into_iter().flatten());
        }
    }
    if !rules.one_of.is_empty() {
        let found: Vec<Errors> = rules.one_of.iter().map(judge).collect();
        match found.iter().filter(|errors| errors.is_empty()).count() {
            1 => {}
            0 => {
                refuse(errors, "must validate one and only one schema (oneOf). Found none valid");
                errors.extend(found.into_iter().min_by_key(|errors| errors.len()).into_iter().flatten());
            }
            many => {
                let why =
                    format!("must validate one and only one schema (oneOf). Found {many} valid alternatives");
                refuse(errors, &why);
            }
        }
    }
    let found: Vec<Errors> = rules.all_of.iter().map(judge).filter(|errors| !errors.is_empty()).collect();
    if !found.is_empty() {
        let none = if found.len() == rules.all_of.len() { ". None validated" } else { "" };
        errors.extend(found.into_iter().flatten());
        refuse(errors, &format!("must validate all the schemas (allOf){none}"));
    }
    if rules.not.as_ref().is_some_and(|not| judge(not).is_empty()) {
        refuse(errors, "must not validate the schema (not)");
    }
}

/// No item of a set, and no keys of a map's items, come twice.
fn lists(at: &Path, node: &Node, value: &Value, old: Option<&Value>, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter() {
                if let Some(node) = node.field(name) {
                    lists(&at.child(name), node, field, old.and_then(|old| old.get(name.as_str())), errors);
                }
            }
        }
        Value::Array(items) => {
            repeated(at, node.list.as_ref(), items, errors);
            let Some(of) = &node.items else { return };
            let before = Before::of(node, old);
            for (index, item) in items.iter().enumerate() {
                lists(&at.index(index), of, item, before.item(item), errors);
            }
        }
        _ => {}
    }
}

fn repeated(at: &Path, kind: Option<&ListKind>, items: &[Value], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = match kind {
            Some(ListKind::Set) => item.clone(),
            Some(ListKind::Map(keys)) => identity(keys, item),
            _ => return,
        };
        if !seen.insert(identity.to_string()) {
            errors.push(Error::duplicate(&at.index(index), identity));
        }
    }
}

impl Node {
    /// Whether a value may stand here, as a default or a constant.
    pub(super) fn takes(&self, at: &Path, given: &Value) -> Errors {
        let mut errors = Errors::new();
        value(at, self, given, None, &mut errors);
        lists(at, self, given, None, &mut errors);
        errors
    }

    pub(super) fn is_object(&self) -> bool {
        self.kind == Some(Kind::Object)
    }
}
