//! The fields of a struct: in order of their JSON names, and found by name at the cost of a hash.
//!
//! Every walk over an object asks for the field of each of its keys, several times on each write. A binary search
//! over names follows a pointer at every step; the index is small, holds no pointers, and is right at the first look.

use std::ops::{Deref, DerefMut};

use super::Field;

/// The fields of a struct. Whoever changes a field leaves its name as it is.
#[derive(Clone, Default)]
pub struct Fields {
    list: Box<[Field]>,
    /// Hash of the name and place in the list, in order of the hashes.
    index: Box<[(u32, u32)]>,
}

impl Fields {
    /// The field of a JSON name.
    pub fn named(&self, name: &str) -> Option<&Field> {
        self.place(name).map(|(_, field)| field)
    }

    /// The field of a JSON name and its place in the list.
    pub fn place(&self, name: &str) -> Option<(usize, &Field)> {
        let hash = hash(name);
        let first = self.index.partition_point(|(other, _)| *other < hash);
        let same = self.index.get(first..)?.iter().take_while(|(other, _)| *other == hash);
        let mut same = same.filter_map(|(_, at)| Some((*at as usize, self.list.get(*at as usize)?)));
        same.find(|(_, field)| field.name.as_ref() == name)
    }
}

impl From<Vec<Field>> for Fields {
    /// Takes fields in any order.
    fn from(mut list: Vec<Field>) -> Self {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        // A struct has far fewer fields than 2^32.
        let mut index: Vec<(u32, u32)> =
            (0u32..).zip(&list).map(|(at, field)| (hash(&field.name), at)).collect();
        index.sort_unstable();
        Self { list: list.into(), index: index.into() }
    }
}

impl Deref for Fields {
    type Target = [Field];
    fn deref(&self) -> &[Field] {
        &self.list
    }
}

impl DerefMut for Fields {
    fn deref_mut(&mut self) -> &mut [Field] {
        &mut self.list
    }
}

impl<'f> IntoIterator for &'f Fields {
    type Item = &'f Field;
    type IntoIter = std::slice::Iter<'f, Field>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.list.fmt(f)
    }
}

/// FNV-1a: names are short, and the set is fixed.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
