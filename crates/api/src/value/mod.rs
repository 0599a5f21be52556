//! The tree of an object: what a request decodes, changes and encodes.
//!
//! It has the shape and the names of `serde_json::Value`, so that code reads as everywhere, and holds less: short texts
//! without an allocation (which field names and most values are), fields in one sorted list instead of a search tree, and
//! objects that copies share until they change.
//! Reading a pod, copying, comparing and dropping it are most of what a write costs, and each is a half to a third of what
//! it would be (see `docs/decisions/tree.md`).
//!
//! - [`read`] and [`write`](write()) are JSON's fast ways in and out; serde's traits ([`tree`]) are there for all other
//!   formats and for what is rare.
//! - [`json!`](crate::json) makes one from a literal.

mod few;
mod from;
mod map;
mod read;
pub mod scan;
mod serde;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod write;

pub use compact_str::CompactString as Text;
pub use map::{Entry, IntoIter, Iter, IterMut, Map};
use read::read;
pub(crate) use read::{Parts, read_own};
pub use serde_json::Number;
pub use write::Gap;
pub(crate) use write::{Writing, write};

use std::borrow::Cow;
use std::fmt;
use std::ops::{Index, IndexMut};

use ::serde::de::DeserializeSeed;
use tree::{Duplicates, Tree};

/// JSON's values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: 64-bit signed, 64-bit unsigned, or double.
    Number(Number),
    /// A text.
    String(Text),
    /// A list.
    Array(Vec<Value>),
    /// Fields by name, in order of their names.
    Object(Map),
}

/// Reads a JSON document, of which what `raw` leads to stays text, and notes the fields that come twice.
pub(crate) fn read_noting(
    json: &[u8],
    raw: &[&str],
    duplicates: &Duplicates,
) -> Result<Value, serde_json::Error> {
    if let Some(value) = read(json, raw) {
        return Ok(value);
    }
    let mut source = serde_json::Deserializer::from_slice(json);
    let value = Tree::keeping(duplicates, raw).deserialize(&mut source)?;
    source.end().map(|()| value)
}

/// What [`Value::get`] finds a part by: a field's name or an item's index.
pub trait Position {
    /// The part at this position.
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value>;
    /// The part at this position, to change.
    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value>;
    /// The part at this position, made if that is possible.
    fn made<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.of_mut(value)
    }
}

impl Position for str {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_object()?.get(self)
    }

    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_object_mut()?.get_mut(self)
    }

    fn made<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        Some(value.as_object_mut()?.entry(self).or_insert(Value::Null))
    }
}

impl Position for usize {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.as_array()?.get(*self)
    }

    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        value.as_array_mut()?.get_mut(*self)
    }
}

macro_rules! like_str {
    ($($type:ty)*) => {$(
        impl Position for $type {
            fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
                self.as_str().of(value)
            }

            fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
                self.as_str().of_mut(value)
            }

            fn made<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
                self.as_str().made(value)
            }
        }
    )*};
}

like_str!(String Text);

impl<P: Position + ?Sized> Position for &P {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        (**self).of(value)
    }

    fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        (**self).of_mut(value)
    }

    fn made<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        (**self).made(value)
    }
}

impl Value {
    /// Reads a JSON document.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        read_noting(json, &[], &Duplicates::default())
    }

    /// A field by its name, or an item by its index.
    pub fn get(&self, position: impl Position) -> Option<&Value> {
        position.of(self)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, position: impl Position) -> Option<&mut Value> {
        position.of_mut(self)
    }

    /// The fields of an object.
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The same, to change.
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The same, to change.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// A whole number that fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// Any number.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }

    /// A number.
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it has fields.
    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// Whether it is a list.
    pub fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    /// Whether it is a text.
    pub fn is_string(&self) -> bool {
        matches!(self, Self::String(_))
    }

    /// Leaves `null` behind.
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// The part that a JSON pointer (RFC 6901) leads to.
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        steps(pointer)?.try_fold(self, |value, step| match value {
            Self::Array(items) => items.get(index(&step)?),
            value => value.get(step.as_ref()),
        })
    }

    /// The same, to change.
    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        steps(pointer)?.try_fold(self, |value, step| match value {
            Self::Array(items) => items.get_mut(index(&step)?),
            value => value.get_mut(step.as_ref()),
        })
    }
}

/// The steps of a pointer, unescaped.
fn steps(pointer: &str) -> Option<impl Iterator<Item = Cow<'_, str>>> {
    let steps = match pointer {
        "" => None,
        pointer => Some(pointer.strip_prefix('/')?.split('/')),
    };
    Some(steps.into_iter().flatten().map(|step| match step.contains('~') {
        true => Cow::Owned(step.replace("~1", "/").replace("~0", "~")),
        false => Cow::Borrowed(step),
    }))
}

/// An index without sign and leading zeros.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || !step.starts_with(['0', '+']);
    step.parse().ok().filter(|_| plain)
}

impl<P: Position> Index<P> for Value {
    type Output = Value;

    /// The part, or `null`.
    fn index(&self, position: P) -> &Value {
        static NULL: Value = Value::Null;
        position.of(self).unwrap_or(&NULL)
    }
}

impl<P: Position> IndexMut<P> for Value {
    /// The part; a field is made if it is not there. Panics where none can be: in a list that is too short, and in
    /// values without fields.
    fn index_mut(&mut self, position: P) -> &mut Value {
        position.made(self).expect("the caller knows that there is, or can be, such a part")
    }
}

impl fmt::Display for Value {
    /// JSON; with `#`, indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match f.alternate() {
            true => serde_json::to_string_pretty(self),
            false => serde_json::to_string(self),
        };
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

/// Makes a [`Value`] from a JSON literal with expressions in it.
#[macro_export]
macro_rules! json {
    ($($tokens:tt)+) => { $crate::Value::from($crate::__serde_json::json!($($tokens)+)) };
}
