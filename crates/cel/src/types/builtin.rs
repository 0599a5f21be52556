//! Types of built-in kinds: each field is looked up when an expression asks for it.

use std::sync::Arc;

use tiphys_api::schema::{Resource, Type as Shape};

use super::escape::unescape;
use super::{Decl, Field, List, Map, Struct, Type};

/// The type of a resource's objects.
pub fn object(resource: &Resource) -> Type {
    Type::Struct(Struct { schema: resource.schema.clone(), id: resource.object })
}

/// A struct's field by the name that an expression has for it.
pub fn field(of: &Struct, name: &str) -> Option<Field> {
    let json = unescape(name);
    let field = of.schema.get(of.id).field(&json)?;
    Some(Field { json: field.name.as_str().into(), decl: shape(of, &field.ty).into() })
}

fn shape(of: &Struct, shape_of: &Shape) -> Type {
    match shape_of {
        Shape::String | Shape::Quantity => Type::String,
        Shape::Bool => Type::Bool,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Double => Type::Double,
        Shape::Bytes => Type::Bytes,
        Shape::Time | Shape::MicroTime => Type::Timestamp,
        Shape::Duration => Type::String,
        Shape::IntOrString | Shape::Any | Shape::FieldsV1 => Type::Dyn,
        Shape::Struct(id) => Type::Struct(Struct { schema: of.schema.clone(), id: *id }),
        Shape::List(list) => {
            let item: Decl = shape(of, &list.item).into();
            Type::List(Arc::new(List { item, kind: list.kind.clone() }))
        }
        Shape::Map(value) => {
            let value: Decl = shape(of, value).into();
            Type::Map(Arc::new(Map { key: Type::String.into(), value }))
        }
    }
}
