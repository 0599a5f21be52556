//! The fields of a struct: in order of their JSON names, and found by name at the cost of a hash.
//!
//! Every walk over an object asks for the field of each of its keys, several times on each write. A binary search
//! over names follows a pointer at every step; the index is small, holds no pointers, and is mostly right at the first
//! look.

use std::ops::{Deref, DerefMut};

use super::{Field, Type};

/// The fields of a struct. Whoever changes a field leaves its name as it is.
#[derive(Clone, Default)]
pub struct Fields {
    list: Box<[Field]>,
    /// A hash table, at most half full: the name's hash, and the place in the list. Whose slot is taken has the next
    /// free one.
    index: Box<[Slot]>,
    /// By the number of a field's message in protobuf, which are small: one more than its place, or 0.
    numbers: Box<[u32]>,
    /// The places of lists that must be there.
    lists: Box<[u32]>,
}

/// See [`Fields`].
#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    /// [`FREE`] for none.
    place: u32,
}

/// No struct has so many fields.
const FREE: u32 = u32::MAX;

impl Fields {
    /// The field of a JSON name.
    pub fn named(&self, name: &str) -> Option<&Field> {
        self.place(name).map(|(_, field)| field)
    }

    /// The field of a number in protobuf, or one of those that are in the message of this number.
    pub fn numbered(&self, number: u32) -> Option<&Field> {
        let place = self.numbers.get(number as usize)?.checked_sub(1)?;
        self.list.get(place as usize)
    }

    /// The lists that must be there, if only as empty ones.
    pub fn required_lists(&self) -> impl Iterator<Item = &Field> {
        self.lists.iter().filter_map(|place| self.list.get(*place as usize))
    }

    /// The field of a JSON name and its place in the list.
    pub fn place(&self, name: &str) -> Option<(usize, &Field)> {
        let hash = hash(name);
        let mut at = first_slot(hash, self.index.len());
        loop {
            let slot = self.index.get(at)?;
            if slot.hash == hash {
                // A free slot's is beyond all.
                let place = slot.place as usize;
                let field = self.list.get(place)?;
                if field.name.as_str() == name {
                    return Some((place, field));
                }
            } else if slot.place == FREE {
                return None;
            }
            at = next_slot(at, self.index.len());
        }
    }
}

fn numbers(list: &[Field]) -> Box<[u32]> {
    let number = |field: &Field| field.proto.as_ref()?.path.first().map(|number| *number as usize);
    let mut places = vec![0; list.iter().filter_map(number).max().map_or(0, |last| last + 1)];
    for (place, field) in (1..).zip(list) {
        if let Some(free) = number(field).and_then(|number| places.get_mut(number)).filter(|at| **at == 0) {
            *free = place;
        }
    }
    places.into()
}

/// Where a hash is in a table, or the first place after one that is taken. The size is a power of two, so this is the rest.
fn first_slot(hash: u32, size: usize) -> usize {
    hash as usize & size.wrapping_sub(1)
}

/// The place after one. As half of all are free, some place ends every search.
fn next_slot(at: usize, size: usize) -> usize {
    (at + 1) & size.wrapping_sub(1)
}

impl From<Vec<Field>> for Fields {
    /// Takes fields in any order.
    fn from(mut list: Vec<Field>) -> Self {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let mut index = vec![Slot { hash: 0, place: FREE }; (2 * list.len()).next_power_of_two()];
        // A struct has far fewer fields than 2^32.
        for (place, field) in (0..).zip(&list) {
            let hash = hash(&field.name);
            let mut at = first_slot(hash, index.len());
            while index.get(at).is_some_and(|slot| slot.place != FREE) {
                at = next_slot(at, index.len());
            }
            if let Some(slot) = index.get_mut(at) {
                *slot = Slot { hash, place };
            }
        }
        let numbers = numbers(&list);
        let required =
            (0..).zip(&list).filter(|(_, field)| field.required && matches!(field.ty, Type::List(_)));
        let lists = required.map(|(place, _)| place).collect();
        Self { list: list.into(), index: index.into(), numbers, lists }
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

/// Names are short, and the set is fixed: its ends and its length tell one from nearly all others.
fn hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let word = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => short(bytes),
    };
    // The high half depends on all bits.
    ((word ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Fewer than eight bytes.
fn short(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}
