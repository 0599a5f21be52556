//! From the object's JSON to values by their types, and back.

use tiphys_api::Value as Tree;
use tiphys_api::{Map as TreeMap, Number};

use super::{List, Map, Result, Text, Value};
use crate::cost::{self, Budget};
use crate::error::EvalError;
use crate::lib::time;
use crate::types::{self, Type};

/// The value of a part of an object under its type.
pub fn from_tree<'a>(tree: &'a Tree, ty: &Type) -> Result<'a> {
    Ok(match (tree, ty) {
        (Tree::Null, _) => Value::Null,
        (Tree::Bool(value), _) => Value::Bool(*value),
        (Tree::Number(number), ty) => from_number(number, ty),
        (Tree::String(text), ty) => return from_text(text.as_str(), ty),
        (Tree::Array(items), Type::List(list)) => Value::List(List::Tree(items, list.clone())),
        (Tree::Array(items), _) => Value::List(List::Tree(items, types::List::dynamic())),
        (Tree::Object(fields), ty) => Value::Map(Map::Tree(fields, ty.clone())),
    })
}

fn from_number<'a>(number: &Number, ty: &Type) -> Value<'a> {
    let double = || Value::Double(number.as_f64().unwrap_or(f64::NAN));
    match (ty, number.as_i64(), number.as_u64()) {
        (Type::Double, _, _) => double(),
        (Type::Int, None, _) => Value::Int(number.as_f64().unwrap_or_default() as i64),
        (_, Some(value), _) => Value::Int(value),
        (_, None, Some(value)) => Value::Uint(value),
        _ => double(),
    }
}

fn from_text<'a>(text: &'a str, ty: &Type) -> Result<'a> {
    let unreadable = |format: &str| EvalError::failed(format!("Invalid {format} format"));
    match ty {
        Type::Timestamp => {
            let found = time::parse_timestamp(text).or_else(|| time::parse_date(text));
            found.map(Value::Timestamp).ok_or_else(|| unreadable("date-time"))
        }
        Type::Duration => {
            time::parse_duration(text).map(Value::Duration).ok_or_else(|| unreadable("duration"))
        }
        Type::Bytes => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            bytes.map(|bytes| Value::Bytes(bytes.into())).map_err(|_| unreadable("byte"))
        }
        _ => Ok(Value::String(Text::Borrowed(text))),
    }
}

/// Deepest JSON that is written: deeper than any object is.
const DEPTH_MAX: u8 = 128;

/// A value as JSON; what has no form there is an error. A value that stands in it many times is written as often, so that what is
/// written is paid for.
pub fn to_tree<'a>(value: &Value<'a>, budget: &Budget) -> Result<'a, Tree> {
    Writer { budget, left: DEPTH_MAX }.tree(value)
}

struct Writer<'b> {
    budget: &'b Budget,
    /// How much deeper it may go.
    left: u8,
}

impl Writer<'_> {
    fn tree<'a>(&self, value: &Value<'a>) -> Result<'a, Tree> {
        self.budget.charge(cost::READ + written(value))?;
        let unknown = || EvalError::failed(format!("cannot convert {} to JSON", value.type_of()));
        Ok(match value {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(*value),
            Value::Int(value) => Tree::Number((*value).into()),
            Value::Uint(value) => Tree::Number((*value).into()),
            Value::Double(value) => Tree::Number(Number::from_f64(*value).ok_or_else(unknown)?),
            Value::String(text) => Tree::String(tiphys_api::Text::new(&**text)),
            Value::Bytes(bytes) => {
                use base64::Engine as _;
                Tree::String(base64::engine::general_purpose::STANDARD.encode(bytes).into())
            }
            Value::Timestamp(at) => Tree::String(time::print_timestamp(*at).into()),
            Value::Duration(nanos) => Tree::String(time::print_duration(*nanos).into()),
            Value::List(list) => {
                let deeper = self.deeper()?;
                let items = list.iter().map(|item| deeper.tree(&item?));
                Tree::Array(items.collect::<std::result::Result<_, _>>()?)
            }
            Value::Map(Map::Tree(fields, _)) => Tree::Object((*fields).clone()),
            Value::Map(map) => Tree::Object(self.deeper()?.fields(map)?),
            Value::Optional(Some(inner)) => return self.deeper()?.tree(inner),
            Value::Optional(None) => Tree::Null,
            Value::Type(_) | Value::Opaque(_) => return Err(unknown()),
        })
    }

    fn deeper<'a>(&self) -> Result<'a, Self> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| EvalError::failed(format!("nested deeper than {DEPTH_MAX} levels")))?;
        Ok(Self { left, ..*self })
    }

    fn fields<'a>(&self, map: &Map<'a>) -> Result<'a, TreeMap> {
        let mut fields = TreeMap::new();
        for (key, value) in map.entries() {
            let Value::String(name) = key else { return Err(EvalError::failed("JSON's keys are strings")) };
            fields.insert(tiphys_api::Text::new(&*name), self.tree(&value?)?);
        }
        Ok(fields)
    }
}

/// What a text costs besides.
fn written(value: &Value<'_>) -> u64 {
    match value {
        Value::String(_) | Value::Bytes(_) => (value.size() as f64 * cost::CHARACTER).ceil() as u64,
        _ => 0,
    }
}

/// How many lists and maps are looked at to tell how deep a value is: those that share parts may seem to have very many.
const PARTS_MAX: u32 = 1 << 20;

impl Value<'_> {
    /// Whether it nests so deep that walks over it, its drop among them, could run out of stack once it is nested
    /// further; or has so many parts that this cannot be told.
    pub fn is_too_deep(&self) -> bool {
        is_deeper(self, DEPTH_MAX, &mut 0)
    }
}

fn is_deeper(value: &Value<'_>, levels: u8, parts: &mut u32) -> bool {
    let mut inner = |value: &Value<'_>| levels == 0 || is_deeper(value, levels - 1, parts);
    let deeper = match value {
        Value::List(List::Items(items)) => items.iter().any(&mut inner),
        Value::Map(Map::Entries(entries)) => entries.values().any(|(_, value)| inner(value)),
        Value::Map(Map::Object(_, fields)) => fields.values().any(&mut inner),
        Value::Optional(Some(value)) => inner(value),
        // Plain, or part of an object, which was bounded when it was read.
        _ => return false,
    };
    *parts += 1;
    deeper || *parts > PARTS_MAX
}
