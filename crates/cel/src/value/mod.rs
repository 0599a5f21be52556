//! Values while an expression is evaluated.
//!
//! The parts of an object stay where they are: a list or map of the object is a reference to it with its type, and a
//! part is made a value when it is asked for. Nothing of an object is copied that an expression does not read.
//! Values live within one evaluation, and so within one thread.

mod compare;
mod list;
mod map;
mod tree;

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use tiphys_api::quantity::Quantity;

pub use compare::{compare, equal};
pub use list::List;
pub use map::{Key, Map};
pub use tree::{from_tree, to_tree};

use crate::ast::Literal;
use crate::error::EvalError;
use crate::lib::cidr::Cidr;
use crate::lib::format::Format;
use crate::lib::url::Url;
use crate::types::Type;

/// A value, or why there is none.
pub type Result<'a, T = Value<'a>> = std::result::Result<T, EvalError>;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A type.
    Type(Type),
    /// A list.
    List(List<'a>),
    /// A map, or an object.
    Map(Map<'a>),
    /// Something that may not be there.
    Optional(Option<Rc<Value<'a>>>),
    /// A value of a library's own.
    Opaque(Opaque<'a>),
}

/// A text of the object or one that was made.
#[derive(Clone)]
pub enum Text<'a> {
    /// Within the object.
    Borrowed(&'a str),
    /// Made.
    Shared(Arc<str>),
}

/// Values of libraries.
#[derive(Clone, Debug)]
pub enum Opaque<'a> {
    /// `kubernetes.Quantity`
    Quantity(Quantity),
    /// `kubernetes.URL`
    Url(Arc<Url>),
    /// `net.IP`
    Ip(IpAddr),
    /// `net.CIDR`
    Cidr(Cidr),
    /// `kubernetes.Semver`
    Semver(Arc<semver::Version>),
    /// `kubernetes.NamedFormat`
    Format(&'static Format),
    /// A value that the caller answers for.
    Host(Rc<dyn Host<'a> + 'a>),
}

/// A value that the caller brings along and answers for: an authorizer, or variables that are evaluated when they are
/// first read.
pub trait Host<'a>: fmt::Debug {
    /// The type's full name.
    fn type_name(&self) -> &'static str;

    /// A field; `None` if there is none of that name.
    fn field(&self, _name: &str) -> Option<Result<'a>> {
        None
    }

    /// A method's result.
    fn call(&self, _name: &str, _args: &[Value<'a>]) -> Result<'a> {
        Err(EvalError::no_such_overload())
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a> Value<'a> {
    /// A text that is made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// A list that is made.
    pub fn list(items: impl Into<Rc<[Value<'a>]>>) -> Self {
        Self::List(List::Items(items.into()))
    }

    /// Something that is there.
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// The type.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Type(_) => Type::Dyn.as_type(),
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(map) => map.type_of(),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Opaque(opaque) => Type::Opaque(opaque.type_name()),
        }
    }

    /// What costs go by: characters, bytes, items or entries; one for what has no size.
    pub fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Opaque(Opaque::Ip(ip)) => {
                if ip.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Self::Opaque(Opaque::Cidr(cidr)) => {
                if cidr.address.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            _ => 1,
        };
        size as u64
    }

    /// Whether `optional.ofNonZeroValue` takes it for nothing.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) | Self::Int(0) | Self::Uint(0) | Self::Duration(0) => true,
            Self::Double(value) => *value == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Optional(inner) => inner.is_none(),
            _ => false,
        }
    }

    /// A field of a map, an object or a host's value.
    pub fn field(&self, name: &str) -> Option<Result<'a>> {
        match self {
            Self::Map(map) => map.field(name),
            Self::Opaque(Opaque::Host(host)) => host.field(name),
            _ => Some(Err(EvalError::no_such_overload())),
        }
    }
}

impl Opaque<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Host(host) => host.type_name(),
        }
    }
}

impl From<&Literal> for Value<'_> {
    fn from(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Int(value) => Self::Int(*value),
            Literal::Uint(value) => Self::Uint(*value),
            Literal::Double(value) => Self::Double(*value),
            Literal::String(text) => Self::String(Text::Shared(text.clone())),
            Literal::Bytes(bytes) => Self::Bytes(bytes.clone()),
        }
    }
}
