//! A few fields in order of their names, shared until somebody changes them.
//!
//! A write holds an object before and after it, and mostly they differ in a few places. A copy counts one more
//! reader, and who changes a field copies the fields beside it, not what is below them. So what a write left alone is
//! the very same in both trees, and to see that they are equal there costs one comparison.

use std::ops::Range;
use std::sync::Arc;

use super::{Text, Value};

/// A name and its value.
pub type Field = (Text, Value);

/// See the module. None for no fields, so that an empty object allocates nothing.
#[derive(Clone, Default)]
pub struct Few(Option<Arc<[Field]>>);

impl Few {
    /// No fields.
    pub const fn new() -> Self {
        Self(None)
    }

    /// All of them.
    pub fn list(&self) -> &[Field] {
        self.0.as_deref().unwrap_or_default()
    }

    /// All of them, to change.
    pub fn list_mut(&mut self) -> &mut [Field] {
        self.0.as_mut().map(Arc::make_mut).unwrap_or_default()
    }

    /// Whether both are the very same list.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    /// Where a name is, or belongs.
    pub fn find(&self, name: &str) -> Result<usize, usize> {
        self.list().binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    /// Puts a field where it belongs.
    pub fn insert(&mut self, at: usize, field: Field) {
        let count = self.list().len();
        let (before, after) = (0..at.min(count), at.min(count)..count);
        self.0 = Some(match self.own() {
            Some(own) => {
                let (before, after) = own.split_at_mut(before.end);
                taken(before).chain([field]).chain(taken(after)).collect()
            }
            None => self.copied(before).chain([field]).chain(self.copied(after)).collect(),
        });
    }

    /// Takes the field at a place out.
    pub fn remove(&mut self, at: usize) -> Option<Value> {
        let count = self.list().len();
        let (left, removed): (Self, Value) = match self.own() {
            Some(own) => {
                let (before, after) = own.split_at_mut_checked(at)?;
                let ((_, value), after) = after.split_first_mut()?;
                (taken(before).chain(taken(after)).collect(), std::mem::take(value))
            }
            None => {
                let value = self.list().get(at)?.1.clone();
                (self.copied(0..at).chain(self.copied(at + 1..count)).collect(), value)
            }
        };
        *self = left;
        Some(removed)
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&Text, &mut Value) -> bool) {
        let list = self.list_mut();
        let Some(gone) = list.iter_mut().position(|(name, value)| !keep(name, value)) else { return };
        let (before, rest) = list.split_at_mut(gone);
        let rest = rest.iter_mut().skip(1).filter_map(|(name, value)| {
            let kept = keep(name, value);
            kept.then(|| (std::mem::take(name), std::mem::take(value)))
        });
        let kept: Vec<Field> = taken(before).chain(rest).collect();
        self.0 = (!kept.is_empty()).then(|| kept.into());
    }

    /// The fields, if nobody else has them.
    fn own(&mut self) -> Option<&mut [Field]> {
        Arc::get_mut(self.0.as_mut()?)
    }

    fn copied(&self, part: Range<usize>) -> impl Iterator<Item = Field> {
        self.list().get(part).unwrap_or_default().iter().cloned()
    }
}

/// Moves fields out of a list that is given up.
fn taken(fields: &mut [Field]) -> impl Iterator<Item = Field> {
    fields.iter_mut().map(std::mem::take)
}

impl FromIterator<Field> for Few {
    /// From fields in order.
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let list: Arc<[Field]> = fields.into_iter().collect();
        Self((!list.is_empty()).then_some(list))
    }
}

/// Fields on their way out: moved, or copied if somebody else has them too.
pub struct Taken {
    few: Few,
    left: Range<usize>,
}

impl IntoIterator for Few {
    type Item = Field;
    type IntoIter = Taken;

    fn into_iter(self) -> Taken {
        let left = 0..self.list().len();
        Taken { few: self, left }
    }
}

impl Taken {
    fn take(&mut self, at: usize) -> Field {
        match self.few.own().and_then(|own| own.get_mut(at)) {
            Some(field) => std::mem::take(field),
            None => self.few.list().get(at).cloned().unwrap_or_default(),
        }
    }
}

impl Iterator for Taken {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        self.left.next().map(|at| self.take(at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl DoubleEndedIterator for Taken {
    fn next_back(&mut self) -> Option<Field> {
        self.left.next_back().map(|at| self.take(at))
    }
}

impl ExactSizeIterator for Taken {}
