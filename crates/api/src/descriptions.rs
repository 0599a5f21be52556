//! What types and fields are for, in the words of the Kubernetes API, for OpenAPI documents.
//!
//! The texts stand in the binary as the build script found them, escaped as in JSON; nothing is kept in memory.

use std::collections::HashMap;

const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/descriptions.txt"));

/// An index of the texts; short-lived.
#[derive(Debug)]
pub struct Descriptions(HashMap<&'static str, &'static str>);

/// The texts of one type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Description {
    own: &'static str,
    fields: &'static str,
}

impl Descriptions {
    /// Finds where each type's texts stand.
    pub fn index() -> Self {
        Self(TEXT.split("T io.k8s.").filter_map(|block| block.split_once('\n')).collect())
    }

    /// The texts of a type by its OpenAPI name; empty ones for a type that has none.
    pub fn of(&self, name: &str) -> Description {
        let block = name.strip_prefix("io.k8s.").and_then(|name| self.0.get(name));
        let (own, fields) = block.and_then(|block| block.split_once('\n')).unwrap_or_default();
        Description { own, fields }
    }
}

impl Description {
    /// What the type is for, escaped as in a JSON string.
    pub fn own(&self) -> &'static str {
        self.own
    }

    /// What a field is for, escaped as in a JSON string.
    pub fn field(&self, name: &str) -> &'static str {
        let mut lines = self.fields.lines();
        while let (Some(field), Some(text)) = (lines.next(), lines.next()) {
            if field == name {
                return text;
            }
        }
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;

    #[test]
    fn nearly_every_type_and_field_is_described() {
        let descriptions = Descriptions::index();
        let (mut fields, mut described) = (0, 0);
        for record in builtin().schema().structs.iter().filter(|r| !r.name.ends_with("List")) {
            let texts = descriptions.of(&record.name);
            fields += record.fields.len();
            described += record.fields.iter().filter(|f| !texts.field(&f.name).is_empty()).count();
        }
        assert!(described * 100 > fields * 97, "{described} of {fields} fields have a description");
        let container = descriptions.of("io.k8s.api.core.v1.Container");
        assert_eq!(container.own(), "A single application container that you want to run within a pod.");
        assert!(container.field("image").starts_with("Container image name."));
        assert!(serde_json::from_str::<String>(&format!("\"{}\"", container.field("args"))).is_ok());
    }
}
