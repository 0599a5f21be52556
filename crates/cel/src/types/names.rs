//! Types as text: how errors print them, how the table of functions writes them, and which names expressions have for
//! them.

use std::fmt;

use super::Type;

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::Type(of) => match **of {
                Self::Dyn => f.write_str("type"),
                _ => write!(f, "type({of})"),
            },
            Self::List(list) => write!(f, "list({})", list.item.ty),
            Self::Map(map) => write!(f, "map({}, {})", map.key.ty, map.value.ty),
            Self::Object(object) => f.write_str(&object.name),
            Self::Struct(of) => f.write_str(&of.schema.get(of.id).name),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(number) => write!(f, "_var{number}"),
        }
    }
}

impl Type {
    /// What `string(type(x))` and `type(x) == …` go by: no parameters.
    pub fn runtime_name(&self) -> String {
        match self {
            Self::Null => "null_type".into(),
            Self::Timestamp => "google.protobuf.Timestamp".into(),
            Self::Duration => "google.protobuf.Duration".into(),
            Self::List(_) => "list".into(),
            Self::Map(_) => "map".into(),
            Self::Optional(_) => "optional_type".into(),
            Self::Type(_) => "type".into(),
            other => other.to_string(),
        }
    }
}

/// The libraries' own types: as the table of functions writes them, and in full.
pub const OPAQUE: [(&str, &str); 11] = [
    ("quantity", "kubernetes.Quantity"),
    ("url", "kubernetes.URL"),
    ("semver", "kubernetes.Semver"),
    ("format", "kubernetes.NamedFormat"),
    ("ip", "net.IP"),
    ("cidr", "net.CIDR"),
    ("authorizer", "kubernetes.authorization.Authorizer"),
    ("path_check", "kubernetes.authorization.PathCheck"),
    ("group_check", "kubernetes.authorization.GroupCheck"),
    ("resource_check", "kubernetes.authorization.ResourceCheck"),
    ("decision", "kubernetes.authorization.Decision"),
];

/// The type that a name in an expression stands for, as in `type(x) == string`.
pub fn named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Dyn.as_type(),
        "dyn" => Type::Dyn,
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        _ => Type::Opaque(OPAQUE.into_iter().find(|(_, full)| *full == name)?.1),
    })
}

/// A type as the table of functions writes it; `A` and `B` are what callers choose.
pub fn parse(text: &str) -> Option<Type> {
    let text = text.trim();
    if let Some((outer, inner)) = text.split_once('(') {
        let inner = inner.strip_suffix(')')?;
        return Some(match outer {
            "list" => Type::list(parse(inner)?),
            "optional" => Type::optional(parse(inner)?),
            "type" => parse(inner)?.as_type(),
            "map" => {
                let (key, value) = inner.split_once(',')?;
                Type::map(parse(key)?, parse(value)?)
            }
            _ => return None,
        });
    }
    Some(match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "null" => Type::Null,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        _ => match OPAQUE.into_iter().find(|(short, _)| *short == text) {
            Some((_, full)) => Type::Opaque(full),
            None => named(text)?,
        },
    })
}
