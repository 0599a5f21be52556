//! What server-side apply may own of a value: the schema, reduced to leaves, maps and lists with identities.

use crate::Value;

use super::fields::{key_element, value_element};
use crate::schema::{Field, List, ListKind, Schema, Struct, Type};

/// A place in an object, as ownership sees it.
#[derive(Clone, Copy)]
pub(super) enum Shape<'s> {
    /// Owned as a whole: plain values, atomic lists and structs.
    Leaf,
    /// Named fields.
    Struct(&'s Schema, &'s Struct),
    /// Free keys.
    Map(&'s Schema, &'s Type),
    /// Items with identities.
    List(&'s Schema, &'s List),
    /// Not described: objects are maps, anything else is a leaf.
    Deduced,
}

/// See [`Shape::look`].
#[derive(Clone, Copy)]
pub(super) struct Look<'s> {
    /// The shape there.
    pub(super) shape: Shape<'s>,
    /// Whether the schema names this field; a named field is owned with what is below it.
    pub(super) named: bool,
    /// Whether the API always has it, so that it is never added or removed itself.
    pub(super) always: bool,
}

impl<'s> Shape<'s> {
    fn of(schema: &'s Schema, ty: &'s Type) -> Self {
        match ty {
            Type::Struct(id) if schema.get(*id).atomic => Self::Leaf,
            Type::Struct(id) => Self::Struct(schema, schema.get(*id)),
            Type::Map(value) => Self::Map(schema, value),
            Type::List(list) if list.kind == ListKind::Atomic => Self::Leaf,
            Type::List(list) => Self::List(schema, list),
            Type::Any => Self::Deduced,
            _ => Self::Leaf,
        }
    }

    fn of_field(schema: &'s Schema, field: &'s Field) -> Self {
        match (field.atomic, &field.ty) {
            (Some(true), _) => Self::Leaf,
            (Some(false), Type::Struct(id)) => Self::Struct(schema, schema.get(*id)),
            (_, ty) => Self::of(schema, ty),
        }
    }

    /// The shape under a key of an object.
    pub(super) fn child(self, name: &str) -> Self {
        self.look(name).shape
    }

    /// What the schema says of a key of an object.
    pub(super) fn look(self, name: &str) -> Look<'s> {
        let other = |shape| Look { shape, named: false, always: false };
        match self {
            Self::Struct(schema, of) => of.field(name).map_or(other(Self::Deduced), |field| Look {
                shape: Self::of_field(schema, field),
                named: true,
                always: field.required && matches!(field.ty, Type::Struct(_)),
            }),
            Self::Map(schema, value) => other(Self::of(schema, value)),
            _ => other(Self::Deduced),
        }
    }

    /// How to treat these two versions of one value (`None`: absent).
    pub(super) fn resolve(self, old: Option<&Value>, new: Option<&Value>) -> Form<'s> {
        let fits = |ok: fn(&Value) -> bool| old.is_none_or(ok) && new.is_none_or(ok);
        let empty = |v: Option<&Value>| match v {
            None => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        if empty(old) && empty(new) {
            return Form::Leaf;
        }
        match self {
            Self::Struct(..) | Self::Map(..) | Self::Deduced if fits(Value::is_object) => Form::Object(self),
            Self::List(schema, list) if fits(Value::is_array) => Form::List(Items { schema, list }),
            _ => Form::Leaf,
        }
    }
}

/// A shape joined with the values found there.
#[derive(Clone, Copy)]
pub(super) enum Form<'s> {
    /// Compare and take as a whole.
    Leaf,
    /// Descend by key.
    Object(Shape<'s>),
    /// Descend by identity of items.
    List(Items<'s>),
}

/// Items by identity, in order.
pub(super) type Index<'v> = Vec<(String, &'v Value)>;

/// A list whose items have identities.
#[derive(Clone, Copy)]
pub(super) struct Items<'s> {
    schema: &'s Schema,
    list: &'s List,
}

impl<'s> Items<'s> {
    /// Shape of an item.
    pub(super) fn shape(self) -> Shape<'s> {
        Shape::of(self.schema, &self.list.item)
    }

    /// The identity of an item as a path element; `None` when it has none.
    pub(super) fn element(self, item: &Value) -> Option<String> {
        let ListKind::Map(keys) = &self.list.kind else { return Some(value_element(item)) };
        let pair = |key: &'s str| Some((key, self.key_value(item, key)?));
        let mut pairs: Vec<(&str, &Value)> = keys.iter().filter_map(|key| pair(key)).collect();
        pairs.sort_unstable_by_key(|(key, _)| *key);
        (!pairs.is_empty()).then(|| key_element(pairs.into_iter()))
    }

    /// The first item of each identity.
    pub(super) fn index(self, list: &[Value]) -> Index<'_> {
        let mut found: Index<'_> = list.iter().filter_map(|item| Some((self.element(item)?, item))).collect();
        // The sort is stable, so the first of equals stays the first.
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.dedup_by(|(a, _), (b, _)| a == b);
        found
    }

    /// The fields that make an item's identity.
    pub(super) fn keys(self) -> &'s [Box<str>] {
        match &self.list.kind {
            ListKind::Map(keys) => keys,
            _ => &[],
        }
    }

    /// Whether two items have the same identity, without making texts.
    pub(super) fn same(self, a: &Value, b: &Value) -> bool {
        match &self.list.kind {
            ListKind::Map(keys) => keys.iter().all(|key| self.key_value(a, key) == self.key_value(b, key)),
            _ => a == b,
        }
    }

    /// A key's value, or its default (`protocol` of a port is `TCP` when absent).
    fn key_value<'v>(self, item: &'v Value, key: &str) -> Option<&'v Value>
    where
        's: 'v,
    {
        item.get(key).or_else(|| match &self.list.item {
            Type::Struct(id) => self.schema.get(*id).field(key)?.default.as_ref(),
            _ => None,
        })
    }
}
