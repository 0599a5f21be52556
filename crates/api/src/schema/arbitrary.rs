//! Random objects of any kind, for property tests: what the schema allows, in canonical form.

use crate::{Map, Text, Value};

use super::{Field, Resource, Schema, StructId, Type};

/// Makes values from a seed; the same seed makes the same value.
pub struct Maker<'a> {
    schema: &'a Schema,
    state: u64,
    /// What may still be made; at the end objects stay small.
    budget: u32,
}

/// A random object of a resource, as a client in canonical form would send it.
pub fn object(resource: &Resource, seed: u64) -> Value {
    let mut maker = Maker { schema: &resource.schema, state: seed | 1, budget: 60 };
    let mut fields = maker.record(resource.object, 0);
    fields.insert("apiVersion".into(), resource.gvk.api_version().into());
    fields.insert("kind".into(), resource.gvk.kind.as_ref().into());
    fields.into()
}

impl Maker<'_> {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn record(&mut self, id: StructId, depth: usize) -> Map {
        let record = self.schema.get(id);
        let mut fields = Map::new();
        for field in &record.fields {
            let wanted = field.required || (self.budget > 0 && self.below(3) == 0 && depth < 7);
            if wanted && field.proto.is_some() {
                self.budget = self.budget.saturating_sub(1);
                if let Some(value) = self.field(field, depth) {
                    fields.insert(Text::new(&field.name), value);
                }
            }
        }
        fields
    }

    fn field(&mut self, field: &Field, depth: usize) -> Option<Value> {
        // These are schemas in some of their forms, not any JSON.
        let is_union =
            matches!(&*field.name, "items" | "additionalItems" | "additionalProperties" | "dependencies");
        if is_union && field.ty == Type::Any {
            return Some(Map::new().into());
        }
        let value = self.value(&field.ty, depth);
        let keeps = field.required || field.proto.as_ref().is_some_and(|p| p.keeps_zero);
        let zero = match &value {
            Value::String(text) => text.is_empty(),
            Value::Bool(set) => !set,
            Value::Number(n) => n.as_f64() == Some(0.0) && field.ty != Type::IntOrString,
            Value::Array(items) => return (field.required || !items.is_empty()).then_some(value),
            Value::Object(entries) if matches!(field.ty, Type::Map(_)) => {
                return (!entries.is_empty()).then_some(value);
            }
            _ => false,
        };
        (keeps || !zero).then_some(value)
    }

    fn value(&mut self, ty: &Type, depth: usize) -> Value {
        match ty {
            Type::String => self.pick(&["", "a", "x-1", "é\"\n"]).into(),
            Type::Bool => (self.below(2) == 0).into(),
            Type::Int32 => i32::try_from(self.below(7)).map_or(0, |n| (n - 3) * 700_000_000).into(),
            Type::Int64 => self.next().cast_signed().into(),
            Type::Double => self.pick_of(&[0.0, 0.5, -2.25]).into(),
            Type::Bytes => self.pick(&["", "AA==", "aGVsbG8="]).into(),
            Type::IntOrString => match self.below(2) {
                0 => (self.below(100)).into(),
                _ => self.pick(&["25%", "http", ""]).into(),
            },
            Type::Quantity => self.pick(&["0", "500m", "1Gi", "2k"]).into(),
            Type::Time => self.pick(&["2026-11-22T10:00:00Z", "1969-12-31T23:59:59Z"]).into(),
            Type::MicroTime => {
                self.pick(&["2026-11-22T10:00:00.000000Z", "2026-11-22T10:00:00.123456Z"]).into()
            }
            Type::Duration => "1h".into(),
            Type::FieldsV1 => crate::json!({"f:metadata": {".": {}}}),
            Type::Any => crate::json!({"a": [1, {"b": "c"}]}),
            Type::Struct(id) => self.record(*id, depth + 1).into(),
            Type::List(list) => {
                let count = if depth > 7 || self.budget == 0 { 0 } else { self.below(3) };
                (0..count).map(|_| self.value(&list.item, depth + 1)).collect()
            }
            // `dependencies` alone is a map of schemas.
            Type::Map(item) if **item == Type::Any => Map::new().into(),
            Type::Map(item) => {
                let count = self.below(3);
                let entries = (0..count).map(|at| (format!("k{at}"), self.value(item, depth + 1)));
                Value::Object(entries.collect())
            }
        }
    }

    fn pick(&mut self, texts: &[&str]) -> String {
        let at = self.below(texts.len() as u64);
        texts[usize::try_from(at).unwrap()].to_owned()
    }

    fn pick_of(&mut self, numbers: &[f64]) -> f64 {
        let at = self.below(numbers.len() as u64);
        numbers[usize::try_from(at).unwrap()]
    }
}
