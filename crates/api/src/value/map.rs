//! Fields by name, sorted.
//!
//! Objects have few fields, so these are one list ([`Few`]). Maps of many (the data of a large ConfigMap) become
//! search trees: with a list, a client could make each of very many insertions move all others. Both are shared by
//! copies until one of these is changed.

use std::collections::{BTreeMap, btree_map};
use std::slice;
use std::sync::Arc;

use super::few::{Few, Field, Taken};
use super::{Text, Value};

/// Up to so many fields are a list.
const FEW: usize = 32;

/// An object's fields, in order of their names' bytes.
#[derive(Clone)]
pub struct Map(Fields);

#[derive(Clone)]
enum Fields {
    Few(Few),
    Many(Arc<BTreeMap<Text, Value>>),
}

impl Map {
    /// No fields.
    pub const fn new() -> Self {
        Self(Fields::Few(Few::new()))
    }

    /// From fields in order of their names, each there once.
    pub(crate) fn in_order(fields: impl ExactSizeIterator<Item = Field>) -> Self {
        Self(match fields.len() <= FEW {
            true => Fields::Few(fields.collect()),
            false => Fields::Many(Arc::new(fields.collect())),
        })
    }

    /// From the last fields of a list, from `first` on, in any order. `None` if a name comes twice.
    pub(crate) fn drained(fields: &mut Vec<Field>, first: usize) -> Option<Self> {
        let own = fields.get_mut(first..)?;
        let less = |a: &Field, b: &Field| a.0.as_str() < b.0.as_str();
        if !own.is_sorted_by(less) {
            own.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
            if !own.is_sorted_by(less) {
                return None;
            }
        }
        Some(Self::in_order(fields.drain(first..)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Fields::Few(few) => few.list().len(),
            Fields::Many(tree) => tree.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both are the very same fields in memory, so that nothing below needs a look.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Fields::Few(a), Fields::Few(b)) => a.same(b),
            (Fields::Many(a), Fields::Many(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match &self.0 {
            // Unequal lengths end most comparisons at once, so going through beats halving.
            Fields::Few(few) => few.list().iter().find(|(other, _)| is(other, name)).map(|(_, value)| value),
            Fields::Many(tree) => tree.get(name),
        }
    }

    /// A field's value, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        match &mut self.0 {
            Fields::Few(few) => {
                let at = few.list().iter().position(|(other, _)| is(other, name))?;
                few.list_mut().get_mut(at).map(|(_, value)| value)
            }
            Fields::Many(tree) => Arc::make_mut(tree).get_mut(name),
        }
    }

    /// Whether there is such a field.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets a field; gives back what was there.
    pub fn insert(&mut self, name: Text, value: Value) -> Option<Value> {
        self.grow();
        match &mut self.0 {
            Fields::Few(few) => match few.find(&name) {
                Ok(at) => few.list_mut().get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
                Err(at) => {
                    few.insert(at, (name, value));
                    None
                }
            },
            Fields::Many(tree) => Arc::make_mut(tree).insert(name, value),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        match &mut self.0 {
            Fields::Few(few) => few.find(name).ok().and_then(|at| few.remove(at)),
            Fields::Many(tree) if !tree.contains_key(name) => None,
            Fields::Many(tree) => Arc::make_mut(tree).remove(name),
        }
    }

    /// A field that may have to be made.
    pub fn entry(&mut self, name: impl Into<Text>) -> Entry<'_> {
        Entry { map: self, name: name.into() }
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&Text, &mut Value) -> bool) {
        match &mut self.0 {
            Fields::Few(few) => few.retain(keep),
            Fields::Many(tree) => Arc::make_mut(tree).retain(|name, value| keep(name, value)),
        }
    }

    /// Takes all fields of another, which is empty then.
    pub fn append(&mut self, other: &mut Map) {
        self.extend(std::mem::take(other));
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Names and values.
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Fields::Few(few) => Iter::Few(few.list().iter()),
            Fields::Many(tree) => Iter::Many(tree.iter()),
        }
    }

    /// Names and values, these to change.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        match &mut self.0 {
            Fields::Few(few) => IterMut::Few(few.list_mut().iter_mut()),
            Fields::Many(tree) => IterMut::Many(Arc::make_mut(tree).iter_mut()),
        }
    }

    /// The names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Text> + ExactSizeIterator + Clone {
        self.iter().map(|(name, _)| name)
    }

    /// The values, in order of the names.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// The values, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// The values alone.
    pub fn into_values(self) -> impl Iterator<Item = Value> {
        self.into_iter().map(|(_, value)| value)
    }

    /// Makes room for one more.
    fn grow(&mut self) {
        if let Fields::Few(few) = &mut self.0
            && few.list().len() == FEW
        {
            self.0 = Fields::Many(Arc::new(std::mem::take(few).into_iter().collect()));
        }
    }
}

/// Whether a field has this name. Texts' own comparison is not inlined, and asks for more than the length first.
#[inline]
fn is(text: &Text, name: &str) -> bool {
    text.len() == name.len() && text.as_bytes() == name.as_bytes()
}

/// See [`Map::entry`].
pub struct Entry<'m> {
    map: &'m mut Map,
    name: Text,
}

impl<'m> Entry<'m> {
    /// The field, made with this value if it is not there.
    pub fn or_insert(self, value: Value) -> &'m mut Value {
        self.or_insert_with(|| value)
    }

    /// The field, made if it is not there.
    pub fn or_insert_with(self, make: impl FnOnce() -> Value) -> &'m mut Value {
        self.map.grow();
        match &mut self.map.0 {
            Fields::Many(tree) => Arc::make_mut(tree).entry(self.name).or_insert_with(make),
            Fields::Few(few) => {
                let at = few.find(&self.name).unwrap_or_else(|at| {
                    few.insert(at, (self.name, make()));
                    at
                });
                &mut few.list_mut().get_mut(at).expect("it was found or just put there").1
            }
        }
    }
}

impl std::ops::Index<&str> for Map {
    type Output = Value;

    /// The field, or `null`.
    fn index(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&Value::Null)
    }
}

impl Default for Map {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
            || match (&self.0, &other.0) {
                (Fields::Few(a), Fields::Few(b)) => a.list() == b.list(),
                _ => self.len() == other.len() && self.iter().eq(other.iter()),
            }
    }
}

impl Eq for Map {}

impl std::hash::Hash for Map {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.len().hash(hasher);
        self.iter().for_each(|field| field.hash(hasher));
    }
}

impl<K: Into<Text>, V: Into<Value>> Extend<(K, V)> for Map {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, fields: I) {
        let mut fields: Vec<Field> = fields.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        if self.is_empty()
            && let Some(map) = Self::drained(&mut fields, 0)
        {
            *self = map;
            return;
        }
        for (name, value) in fields {
            self.insert(name, value);
        }
    }
}

impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Map {
    /// The last of several with one name counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        let mut map = Self::new();
        map.extend(fields);
        map
    }
}

macro_rules! iterator {
    ($(#[$doc:meta])* $name:ident $(<$life:lifetime>)?, $few:ty, $many:ty, $item:ty, $of:expr, [$($clone:ident)?]) => {
        $(#[$doc])*
        $(#[derive($clone)])?
        pub enum $name $(<$life>)? {
            /// Of a list.
            Few($few),
            /// Of a search tree.
            Many($many),
        }

        impl $(<$life>)? Iterator for $name $(<$life>)? {
            type Item = $item;

            fn next(&mut self) -> Option<Self::Item> {
                match self {
                    Self::Few(list) => list.next().map($of),
                    Self::Many(tree) => tree.next(),
                }
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                match self {
                    Self::Few(list) => list.size_hint(),
                    Self::Many(tree) => tree.size_hint(),
                }
            }
        }

        impl $(<$life>)? DoubleEndedIterator for $name $(<$life>)? {
            fn next_back(&mut self) -> Option<Self::Item> {
                match self {
                    Self::Few(list) => list.next_back().map($of),
                    Self::Many(tree) => tree.next_back(),
                }
            }
        }

        impl $(<$life>)? ExactSizeIterator for $name $(<$life>)? {}
    };
}

iterator!(
    /// See [`Map::iter`].
    Iter<'m>, slice::Iter<'m, (Text, Value)>, btree_map::Iter<'m, Text, Value>,
    (&'m Text, &'m Value), |(name, value)| (name, value), [Clone]
);
iterator!(
    /// See [`Map::iter_mut`].
    IterMut<'m>, slice::IterMut<'m, (Text, Value)>, btree_map::IterMut<'m, Text, Value>,
    (&'m Text, &'m mut Value), |(name, value)| (&*name, value), []
);
iterator!(
    /// A map's fields, moved out.
    IntoIter, Taken, btree_map::IntoIter<Text, Value>,
    (Text, Value), |field| field, []
);

impl IntoIterator for Map {
    type Item = (Text, Value);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        match self.0 {
            Fields::Few(few) => IntoIter::Few(few.into_iter()),
            Fields::Many(tree) => IntoIter::Many(Arc::unwrap_or_clone(tree).into_iter()),
        }
    }
}

impl<'m> IntoIterator for &'m Map {
    type Item = (&'m Text, &'m Value);
    type IntoIter = Iter<'m>;

    fn into_iter(self) -> Iter<'m> {
        self.iter()
    }
}

impl<'m> IntoIterator for &'m mut Map {
    type Item = (&'m Text, &'m mut Value);
    type IntoIter = IterMut<'m>;

    fn into_iter(self) -> IterMut<'m> {
        self.iter_mut()
    }
}
