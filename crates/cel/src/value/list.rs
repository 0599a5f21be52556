//! Lists: of the object, or made.

use std::rc::Rc;
use std::sync::Arc;

use tiphys_api::Value as Tree;

use super::{Result, Value, from_tree};
use crate::types;

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Within the object.
    Tree(&'a [Tree], Arc<types::List>),
    /// Made.
    Items(Rc<[Value<'a>]>),
}

impl<'a> List<'a> {
    /// How many items it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Tree(items, _) => items.len(),
            Self::Items(items) => items.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item.
    pub fn get(&self, index: usize) -> Option<Result<'a>> {
        match self {
            Self::Tree(items, of) => items.get(index).map(|item| from_tree(item, &of.item.ty)),
            Self::Items(items) => items.get(index).cloned().map(Ok),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Result<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All items, or the first error.
    pub fn to_vec(&self) -> Result<'a, Vec<Value<'a>>> {
        self.iter().collect()
    }
}
