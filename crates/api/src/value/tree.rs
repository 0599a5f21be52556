//! Builds a tree from any serde source and notes fields that come twice: the general reader, which takes what
//! [`read`](super::read) leaves.
//!
//! The path of a field is a chain of stack frames; its text is made only when a duplicate is found.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Map, Number, Text, Value};

/// `duplicate field "spec.x"`, in order of appearance.
pub type Duplicates = RefCell<Vec<String>>;

/// Reads one value at a place.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    at: Place<'a>,
    duplicates: &'a Duplicates,
    /// The names from here to what stays JSON text; only where the source is JSON.
    raw: &'a [&'a str],
}

/// A place in a document.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The document itself.
    Root,
    /// A field or key of the parent.
    Key(&'a Place<'a>, &'a str),
    /// An item of the parent.
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl<'a> Tree<'a> {
    /// Reads a whole document.
    pub fn root(duplicates: &'a Duplicates) -> Self {
        Self { at: Place::Root, duplicates, raw: &[] }
    }

    /// Reads a whole document of JSON; what `raw` leads to, through lists too, stays text.
    pub fn keeping(duplicates: &'a Duplicates, raw: &'a [&'a str]) -> Self {
        Self { raw, ..Self::root(duplicates) }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(Text::new(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let item = Tree { at: Place::Item(&self.at, items.len()), ..self };
            match source.next_element_seed(item)? {
                Some(value) => items.push(value),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = source.next_key::<Text>()? {
            let at = Place::Key(&self.at, &key);
            let value = match self.raw {
                [step] if *step == key => source.next_value::<&RawValue>()?.get().into(),
                [step, below @ ..] if *step == key => {
                    source.next_value_seed(Tree { at, raw: below, ..self })?
                }
                _ => source.next_value_seed(Tree { at, raw: &[], ..self })?,
            };
            if fields.contains_key(&key) {
                self.duplicates.borrow_mut().push(format!("duplicate field {:?}", at.to_string()));
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
