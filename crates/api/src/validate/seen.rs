//! What was seen so far, for rules about uniqueness; and who has a name, for rules about references. Both cost little
//! for the few items that most lists have, and stay cheap for the longest that a request can hold.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::Value;

use super::Fields;

/// Up to so many are compared one by one, which needs no table.
const FEW: usize = 16;

/// A set that costs little while it is small, and stays cheap for lists of any length.
#[derive(Debug)]
pub struct Seen<T> {
    few: Vec<T>,
    many: HashSet<T>,
}

impl<T: Copy + Eq + Hash> Default for Seen<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + Eq + Hash> Seen<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { few: Vec::new(), many: HashSet::new() }
    }

    /// Whether it was seen.
    pub fn has(&self, item: T) -> bool {
        self.few.contains(&item) || (!self.many.is_empty() && self.many.contains(&item))
    }

    /// Notes it; false when it was seen before.
    pub fn add(&mut self, item: T) -> bool {
        if self.has(item) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(item);
        } else {
            self.many.insert(item);
        }
        true
    }
}

/// The objects of a list by one of their texts; of several with the same, the first.
#[derive(Debug)]
pub struct ByText<'v> {
    list: &'v [Value],
    key: &'static str,
    /// None for short lists, which are searched.
    table: Option<HashMap<&'v str, &'v Fields>>,
}

impl<'v> ByText<'v> {
    /// The objects of `list` by their field `key`.
    pub fn new(list: &'v [Value], key: &'static str) -> Self {
        let table = (list.len() > FEW).then(|| {
            // Backwards, so that the first of several stays.
            list.iter().rev().filter_map(|item| entry(item, key)).collect()
        });
        Self { list, key, table }
    }

    /// Who has the text.
    pub fn get(&self, text: &str) -> Option<&'v Fields> {
        match &self.table {
            Some(table) => table.get(text).copied(),
            None => {
                let mut entries = self.list.iter().filter_map(|item| entry(item, self.key));
                entries.find(|(own, _)| *own == text).map(|(_, item)| item)
            }
        }
    }

    /// Whether anyone has it.
    pub fn has(&self, text: &str) -> bool {
        self.get(text).is_some()
    }
}

fn entry<'v>(item: &'v Value, key: &str) -> Option<(&'v str, &'v Fields)> {
    let item = item.as_object()?;
    Some((item.get(key).and_then(Value::as_str).unwrap_or_default(), item))
}

#[cfg(test)]
mod tests {
    use crate::json;

    use super::*;

    #[test]
    fn the_first_of_a_name_is_found_in_short_and_long_lists() {
        for length in [3, 100] {
            let list: Vec<Value> =
                (0..length).map(|n| json!({"name": format!("n{}", n / 2), "at": n})).collect();
            let by_name = ByText::new(&list, "name");
            assert_eq!(by_name.get("n1").map(|item| &item["at"]), Some(&json!(2)));
            assert!(by_name.has("n0") && !by_name.has("x") && !by_name.has(""));
        }
    }
}
