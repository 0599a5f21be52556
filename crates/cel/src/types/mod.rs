//! Types of values, as the checker sees them, and how large values may get, as the cost estimate needs it.
//!
//! A type comes from a custom resource's schema ([`openapi`]), from a built-in kind ([`builtin`], looked up as far as
//! an expression goes, as kinds contain themselves), or from the table of functions. Types are cheap to copy.

pub mod builtin;
pub mod escape;
mod names;
pub mod openapi;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use tiphys_api::schema::{ListKind, Schema, StructId};

pub use names::{named, parse};

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known when it is evaluated.
    Dyn,
    /// Of an expression that is wrong, so that it is complained about once.
    Error,
    /// `null`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.protobuf.Duration`
    Duration,
    /// The type of a type.
    Type(Arc<Type>),
    /// `list(T)`
    List(Arc<List>),
    /// `map(K, V)`
    Map(Arc<Map>),
    /// An object with known fields.
    Object(Arc<Object>),
    /// An object of a built-in kind.
    Struct(Struct),
    /// `optional_type(T)`
    Optional(Arc<Type>),
    /// A library's own type.
    Opaque(&'static str),
    /// To be found by the checker.
    Param(u32),
}

/// A type, and how large its values may be.
#[derive(Clone, Debug)]
pub struct Decl {
    /// The type.
    pub ty: Type,
    /// Most characters, bytes, items or entries; [`UNBOUNDED`] where nobody says.
    pub max: u64,
    /// Fewest bytes in JSON.
    pub min_bytes: u64,
}

/// A size that nothing limits.
pub const UNBOUNDED: u64 = u64::MAX;

/// A list's items.
#[derive(Clone, Debug)]
pub struct List {
    /// What is in it.
    pub item: Decl,
    /// Sets and lists of named items are equal in any order.
    pub kind: ListKind,
}

/// A map's entries.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its keys.
    pub key: Decl,
    /// Its values.
    pub value: Decl,
}

/// An object with fields.
#[derive(Clone, Debug)]
pub struct Object {
    /// What errors and `type()` call it.
    pub name: Arc<str>,
    /// By the name that expressions use.
    pub fields: BTreeMap<Box<str>, Field>,
    /// Whether it may have any other field, too.
    pub open: bool,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in JSON.
    pub json: Box<str>,
    /// Its type.
    pub decl: Decl,
}

/// A struct of a built-in kind.
#[derive(Clone, Debug)]
pub struct Struct {
    /// The arena it is in.
    pub schema: Arc<Schema>,
    /// Which.
    pub id: StructId,
}

impl Decl {
    /// A value of any size.
    pub fn of(ty: Type) -> Self {
        Self { ty, max: UNBOUNDED, min_bytes: 0 }
    }
}

impl From<Type> for Decl {
    fn from(ty: Type) -> Self {
        Self::of(ty)
    }
}

impl Object {
    fn field(&self, name: &str) -> Option<Field> {
        let any = || Field { json: name.into(), decl: Type::Dyn.into() };
        self.fields.get(name).cloned().or_else(|| self.open.then(any))
    }
}

impl List {
    /// A list of anything.
    pub fn dynamic() -> Arc<Self> {
        static DYNAMIC: LazyLock<Arc<List>> = LazyLock::new(|| Arc::new(List::of(Type::Dyn)));
        DYNAMIC.clone()
    }

    fn of(item: Type) -> Self {
        Self { item: item.into(), kind: ListKind::Atomic }
    }
}

impl Type {
    /// `list(item)`
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(List::of(item)))
    }

    /// `map(key, value)`
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(Map { key: key.into(), value: value.into() }))
    }

    /// `optional_type(inner)`
    pub fn optional(inner: Self) -> Self {
        Self::Optional(Arc::new(inner))
    }

    /// The type of this type.
    pub fn as_type(self) -> Self {
        Self::Type(Arc::new(self))
    }

    /// An object with fields of its own: a variable that holds other variables, say.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (Box<str>, Decl)>) -> Self {
        let fields = fields.into_iter().map(|(name, decl)| (name.clone(), Field { json: name, decl }));
        Self::Object(Arc::new(Object { name: name.into(), fields: fields.collect(), open: false }))
    }

    /// An object of whose fields nothing is known but what an expression makes of them.
    pub fn open(name: &str) -> Self {
        Self::Object(Arc::new(Object { name: name.into(), fields: BTreeMap::new(), open: true }))
    }

    /// The field that an expression means by a name.
    pub fn field(&self, name: &str) -> Option<Field> {
        match self {
            Self::Object(object) => object.field(name),
            Self::Struct(of) => builtin::field(of, name),
            _ => None,
        }
    }

    /// Whether its values have a size of their own, and are not one thing.
    pub fn is_sized(&self) -> bool {
        !matches!(
            self,
            Self::Null
                | Self::Bool
                | Self::Int
                | Self::Uint
                | Self::Double
                | Self::Timestamp
                | Self::Duration
                | Self::Type(_)
        )
    }
}

/// Whether both are the same type, whatever the sizes of their values.
impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Type(a), Self::Type(b)) | (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.item.ty == b.item.ty,
            (Self::Map(a), Self::Map(b)) => a.key.ty == b.key.ty && a.value.ty == b.value.ty,
            (Self::Object(a), Self::Object(b)) => a.name == b.name,
            (Self::Struct(a), Self::Struct(b)) => a.id == b.id && Arc::ptr_eq(&a.schema, &b.schema),
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Param(a), Self::Param(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}
