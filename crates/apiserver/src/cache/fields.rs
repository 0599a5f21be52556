//! Selectable fields, read from an object's bytes in one pass without building a tree.
//!
//! A [`FieldPaths`] is compiled once per resource; reading keeps only the wanted texts and skips all else.

use std::collections::BTreeMap;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tiphys_api::schema::{Resource, Type};

/// The selectable fields of a resource as paths into its JSON.
#[derive(Debug, Default)]
pub struct FieldPaths {
    root: Node,
    /// Value of each field when it is absent, in the order of the labels.
    absent: Vec<&'static str>,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, Node>,
    slots: Vec<usize>,
}

impl FieldPaths {
    /// Compiles the resource's `field_paths`.
    pub fn new(resource: &Resource) -> Self {
        let mut paths = Self::default();
        for (slot, path) in resource.field_paths.iter().enumerate() {
            let mut node = &mut paths.root;
            for key in path.split('.') {
                node = node.children.entry(key.into()).or_default();
            }
            node.slots.push(slot);
            paths.absent.push(absent(resource, path));
        }
        paths
    }

    /// The texts of all fields in the order of the labels; nothing for resources without selectable fields.
    pub fn read(&self, json: &[u8]) -> Result<Box<[Box<str>]>, serde_json::Error> {
        if self.absent.is_empty() {
            return Ok(Box::default());
        }
        let mut found: Vec<Box<str>> = self.absent.iter().map(|text| Box::from(*text)).collect();
        let mut json = serde_json::Deserializer::from_slice(json);
        Pick { node: &self.root, found: &mut found }.deserialize(&mut json)?;
        Ok(found.into())
    }
}

/// What Go's zero value of the field prints.
fn absent(resource: &Resource, path: &str) -> &'static str {
    let mut ty = &Type::Struct(resource.object);
    for key in path.split('.') {
        let Type::Struct(id) = ty else { return "" };
        let Some(field) = resource.schema.get(*id).field(key) else { return "" };
        ty = &field.ty;
    }
    match ty {
        Type::Bool => "false",
        Type::Int32 | Type::Int64 => "0",
        _ => "",
    }
}

struct Pick<'a> {
    node: &'a Node,
    found: &'a mut Vec<Box<str>>,
}

impl Pick<'_> {
    fn keep(self, text: &str) {
        for slot in &self.node.slots {
            if let Some(place) = self.found.get_mut(*slot) {
                *place = text.into();
            }
        }
    }
}

/// Reads a key as the child it names, without keeping the text.
struct Key<'a>(&'a Node);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<&'a Node>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<&'a Node>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.get(key))
    }
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.keep(text);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.keep(if value { "true" } else { "false" });
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.keep(&value.to_string());
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.keep(&value.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.keep(&value.to_string());
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Key(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Pick { node, found: self.found })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
