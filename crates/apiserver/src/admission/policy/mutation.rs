//! One mutation of a policy: what its expression makes of an object.
//!
//! - `ApplyConfiguration`: the expression gives an `Object`, which is laid over the object as server-side apply does, nobody's
//!   ownership being looked at. `JSONPatch`: it gives a list of `JSONPatch`.
//! - `Object` and the types of its fields, which are named by their paths (`Object.spec.containers`), take any fields: which kind
//!   a policy meets is known when it meets it. Then names must fit their places, and fields the kind.

use std::sync::Arc;

use tiphys_api::patch::{self, PatchError};
use tiphys_api::schema::Resource;
use tiphys_api::{Map, Value, apply};
use tiphys_cel::value::{List, Map as CelMap, to_tree};
use tiphys_cel::{Env, Type, Value as Cel};

use super::super::expression::{self, Compiled};
use super::inputs::{Inputs, Read};
use crate::registry::tree;

const OBJECT: &str = "Object";
const JSON_PATCH: &str = "JSONPatch";

/// `patchType`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    ApplyConfiguration,
    JsonPatch,
}

/// See the module.
pub struct Mutation {
    form: Form,
    text: Box<str>,
    program: Compiled,
}

fn json_patch() -> Type {
    let text = |name: &str| (name.into(), Type::String.into());
    Type::object(JSON_PATCH, [text("op"), text("path"), text("from"), ("value".into(), Type::Dyn.into())])
}

/// What expressions of mutations read, and the types that they make values of.
pub fn env(inputs: &Inputs) -> Env {
    inputs.env.clone().with_open_structures(OBJECT).with_structure(JSON_PATCH, json_patch())
}

impl Form {
    /// Of a mutation.
    pub fn of(mutation: &Value) -> Option<Self> {
        match tree::text(mutation, &["patchType"]) {
            "ApplyConfiguration" => Some(Self::ApplyConfiguration),
            "JSONPatch" => Some(Self::JsonPatch),
            _ => None,
        }
    }

    /// The field that holds its expression.
    pub fn field(self) -> &'static str {
        match self {
            Self::ApplyConfiguration => "applyConfiguration",
            Self::JsonPatch => "jsonPatch",
        }
    }

    /// Its expression.
    pub fn text(self, mutation: &Value) -> &str {
        tree::text(mutation, &[self.field(), "expression"]).trim()
    }

    /// What its expression must come to.
    pub fn wanted(self) -> Type {
        match self {
            Self::ApplyConfiguration => Type::open(OBJECT),
            Self::JsonPatch => Type::list(json_patch()),
        }
    }
}

impl Mutation {
    /// Of a policy's `mutations`.
    pub fn new(mutation: &Value, env: &Env) -> Option<Self> {
        let form = Form::of(mutation)?;
        let text = form.text(mutation);
        Some(Self { form, text: text.into(), program: expression::compile(text, env, Some(&form.wanted())) })
    }

    /// What an object of a kind (`None`: of one without a schema) becomes; `None` where it stays as it is.
    pub fn outcome(
        &self,
        read: &Read<'_>,
        object: &Value,
        kind: Option<&Arc<Resource>>,
    ) -> Result<Option<Value>, String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        let value = program
            .evaluate(read, read.budget)
            .map_err(|error| format!("expression '{}' resulted in error: {error}", self.text))?;
        match self.form {
            Form::ApplyConfiguration => applied(&value, read, object, kind).map(Some),
            Form::JsonPatch => patched(&value, read, object),
        }
    }
}

fn applied(
    value: &Cel<'_>,
    read: &Read<'_>,
    object: &Value,
    kind: Option<&Arc<Resource>>,
) -> Result<Value, String> {
    let mut config = plain(value, read)?;
    check_names(value, OBJECT).map_err(|why| format!("type mismatch: {why}"))?;
    for name in ["apiVersion", "kind"] {
        tree::set(&mut config, &[name], tree::at(object, &[name]).clone());
    }
    let kind = kind.ok_or("error applying patch: there is no schema of this kind to merge by")?;
    let mut object = object.clone();
    apply::overlay(kind, &mut object, config).map_err(|why| format!("error applying patch: {why}"))?;
    Ok(object)
}

/// The object after a list of `JSONPatch`; `None` if one of its tests does not hold.
fn patched(value: &Cel<'_>, read: &Read<'_>, object: &Value) -> Result<Option<Value>, String> {
    let Cel::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let operations = list
        .iter()
        .map(|item| operation(&item.map_err(|error| error.to_string())?, read))
        .collect::<Result<Vec<_>, _>>()?;
    let mut object = object.clone();
    match patch::json(&mut object, &Value::Array(operations)) {
        Ok(()) => Ok(Some(object)),
        Err(PatchError::TestFailed(_)) => Ok(None),
        Err(error) => Err(format!("JSONPath: {error}")),
    }
}

/// An operation of a JSON patch.
fn operation(item: &Cel<'_>, read: &Read<'_>) -> Result<Value, String> {
    let fields = match item {
        Cel::Map(CelMap::Object(name, fields)) if **name == *JSON_PATCH => fields,
        _ => {
            return Err(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned()
            );
        }
    };
    let mut operation = Map::new();
    for name in ["op", "path", "from"] {
        match fields.get(name) {
            Some(Cel::String(text)) if name != "from" || !text.is_empty() => {
                operation.insert(name.into(), (**text).into());
            }
            None | Some(Cel::String(_)) => {}
            Some(other) => {
                return Err(format!("unexpected type {} for JSONPatchType '{name}' field", other.type_of()));
            }
        }
    }
    if let Some(value) = fields.get("value") {
        if let Cel::Map(CelMap::Object(name, _)) = value {
            check_names(value, name).map_err(|why| format!("type mismatch: {why}"))?;
        }
        let value = plain(value, read).map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
        operation.insert("value".into(), value);
    }
    Ok(operation.into())
}

fn plain(value: &Cel<'_>, read: &Read<'_>) -> Result<Value, String> {
    to_tree(value, read.budget).map_err(|error| error.to_string())
}

/// Whether objects stand at the places that their types' names say. A value is not walked before its size is known to be within
/// the budget.
fn check_names(value: &Cel<'_>, place: &str) -> Result<(), String> {
    match value {
        Cel::Map(CelMap::Object(name, _)) if **name != *place => Err(format!(
            "unexpected type name {:?}, expected {place:?}, which matches field name path from root Object type",
            &**name
        )),
        Cel::Map(CelMap::Object(_, fields)) => {
            fields.iter().try_for_each(|(name, value)| check_names(value, &format!("{place}.{name}")))
        }
        Cel::Map(CelMap::Entries(entries)) => {
            entries.values().try_for_each(|(_, value)| check_names(value, place))
        }
        Cel::List(List::Items(items)) => items.iter().try_for_each(|item| check_names(item, place)),
        Cel::Optional(Some(inner)) => check_names(inner, place),
        _ => Ok(()),
    }
}
