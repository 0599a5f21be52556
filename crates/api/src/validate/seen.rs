//! What was seen so far, for rules about uniqueness.

use std::collections::HashSet;
use std::hash::Hash;

/// Up to so many are compared one by one, which needs no table.
const FEW: usize = 16;

/// A set that costs little while it is small, and stays cheap for lists of any length.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    few: Vec<T>,
    many: HashSet<T>,
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
