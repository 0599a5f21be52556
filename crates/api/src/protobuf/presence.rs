//! Which scalars tell absence from zero.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::schema::{Field, Struct};

static POINTERS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let lines = include_str!("../../schema/presence.txt").lines();
    let facts = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    facts
        .filter_map(|line| line.split_once(' '))
        .map(|(ty, fields)| (ty, fields.split(' ').collect()))
        .collect()
});

/// Whether a zero on the wire is a value of this field, not its absence.
pub fn keeps_zero(owner: &Struct, field: &Field) -> bool {
    field.required
        || POINTERS.get(short(&owner.name)).is_some_and(|fields| fields.contains(&field.name.as_ref()))
}

/// `core.v1.PodSpec` of `io.k8s.api.core.v1.PodSpec`: the last three parts.
fn short(name: &str) -> &str {
    let start = name.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
    name.get(start..).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_fact_is_about_a_field_that_exists() {
        let schema = schema::builtin().schema();
        for (ty, fields) in POINTERS.iter() {
            let owner = schema.structs.iter().find(|s| short(&s.name) == *ty);
            let owner = owner.unwrap_or_else(|| panic!("no type {ty}"));
            for field in fields {
                assert!(owner.field(field).is_some(), "{ty} has no {field}");
            }
        }
    }
}
