//! Maps and objects: of the object, or made.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tiphys_api::Map as Tree;

use super::{Result, Text, Value, from_tree};
use crate::types::Type;

/// A map or an object.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Within the object.
    Tree(&'a Tree, Type),
    /// Made: by key, the key as it was given and the value.
    Entries(Rc<BTreeMap<Key, (Value<'a>, Value<'a>)>>),
    /// An object that was made, by its type's name.
    Object(Arc<str>, Rc<BTreeMap<Arc<str>, Value<'a>>>),
}

/// What keys go by: numbers are one key whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(i128),
    /// A text.
    Text(Arc<str>),
}

impl Key {
    /// The key that a value is; `None` for values that are no keys.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Number(i128::from(*value)),
            Value::Uint(value) => Self::Number(i128::from(*value)),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e19 => {
                Self::Number(*value as i128)
            }
            Value::String(text) => Self::Text((&**text).into()),
            _ => return None,
        })
    }
}

impl<'a> Map<'a> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Tree(fields, _) => fields.len(),
            Self::Entries(entries) => entries.len(),
            Self::Object(_, fields) => fields.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its type.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Tree(_, ty @ (Type::Object(_) | Type::Struct(_))) => ty.clone(),
            Self::Object(name, _) => Type::object(name, []),
            _ => Type::map(Type::Dyn, Type::Dyn),
        }
    }

    /// The name of the type of which an expression made it.
    pub fn made_as(&self) -> Option<&str> {
        match self {
            Self::Object(name, _) => Some(name),
            _ => None,
        }
    }

    /// The value of a key, or of a field as expressions write its name.
    pub fn field(&self, name: &str) -> Option<Result<'a>> {
        match self {
            Self::Tree(fields, ty @ (Type::Object(_) | Type::Struct(_))) => {
                let field = ty.field(name)?;
                fields.get(&field.json).map(|value| from_tree(value, &field.decl.ty))
            }
            Self::Tree(fields, ty) => fields.get(name).map(|value| from_tree(value, value_type(ty))),
            Self::Entries(entries) => {
                entries.get(&Key::Text(name.into())).map(|(_, value)| Ok(value.clone()))
            }
            Self::Object(_, fields) => fields.get(name).map(|value| Ok(value.clone())),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &Value<'_>) -> Option<Result<'a>> {
        match (self, key) {
            (_, Value::String(text)) => self.field(text),
            (Self::Entries(entries), key) => entries.get(&Key::of(key)?).map(|(_, value)| Ok(value.clone())),
            _ => None,
        }
    }

    /// All keys; of an object, the fields' names in JSON.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Tree(fields, _) => {
                fields.iter().map(|(name, _)| Value::String(Text::Borrowed(name.as_str()))).collect()
            }
            Self::Entries(entries) => entries.values().map(|(key, _)| key.clone()).collect(),
            Self::Object(_, fields) => fields.keys().map(|name| Value::text(name.clone())).collect(),
        }
    }

    /// All keys and values.
    pub fn entries(&self) -> Vec<(Value<'a>, Result<'a>)> {
        match self {
            Self::Entries(entries) => {
                entries.values().map(|(key, value)| (key.clone(), Ok(value.clone()))).collect()
            }
            Self::Object(_, fields) => {
                fields.iter().map(|(name, value)| (Value::text(name.clone()), Ok(value.clone()))).collect()
            }
            Self::Tree(fields, ty) => {
                let value = |name: &str, value: &'a tiphys_api::Value| match ty {
                    Type::Object(_) | Type::Struct(_) => {
                        let written = crate::types::escape::escape(name).unwrap_or_default();
                        let known = ty.field(&written).map_or(Type::Dyn, |field| field.decl.ty);
                        from_tree(value, &known)
                    }
                    ty => from_tree(value, value_type(ty)),
                };
                let entry = |(name, tree): (&'a tiphys_api::Text, &'a tiphys_api::Value)| {
                    (Value::String(Text::Borrowed(name.as_str())), value(name, tree))
                };
                fields.iter().map(entry).collect()
            }
        }
    }
}

fn value_type(ty: &Type) -> &Type {
    match ty {
        Type::Map(map) => &map.value.ty,
        _ => &Type::Dyn,
    }
}
