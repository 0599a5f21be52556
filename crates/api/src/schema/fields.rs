//! The fields of a struct: in order of their JSON names, and found by name at the cost of a hash.
//!
//! Every walk over an object asks for the field of each of its keys, several times on each write. A binary search
//! over names follows a pointer at every step; the index is small, is mostly right at the first look, and knows names of
//! up to sixteen bytes, which are nearly all, without the names themselves.

use std::ops::{Deref, DerefMut};

use super::{Field, Type};

/// The fields of a struct. Whoever changes a field leaves its name as it is.
#[derive(Clone, Default)]
pub struct Fields {
    list: Box<[Field]>,
    /// A hash table, at most half full. Whose slot is taken has the next free one.
    index: Box<[Slot]>,
    /// By the number of a field's message in protobuf, which are small: one more than its place, or 0.
    numbers: Box<[u32]>,
    /// The places of lists that must be there.
    lists: Box<[u32]>,
}

/// See [`Fields`].
#[derive(Clone, Copy)]
struct Slot {
    name: Ends,
    /// In the list; [`FREE`] for none.
    place: u32,
}

/// The ends of a name and its length: all of it, unless it is longer than [`KNOWN`].
#[derive(Clone, Copy, Default, PartialEq)]
struct Ends {
    first: u64,
    last: u64,
    length: u32,
}

/// Up to so many bytes a name is nothing but its ends.
const KNOWN: usize = 16;

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
    #[inline]
    pub fn place(&self, name: &str) -> Option<(usize, &Field)> {
        let ends = Ends::of(name);
        let mut at = ends.slot(self.index.len());
        loop {
            let slot = self.index.get(at)?;
            if slot.name == ends {
                // A free slot's is beyond all.
                let place = slot.place as usize;
                let field = self.list.get(place)?;
                if name.len() <= KNOWN || field.name == name {
                    return Some((place, field));
                }
            } else if slot.place == FREE {
                return None;
            }
            at = next_slot(at, self.index.len());
        }
    }
}

impl Ends {
    #[inline]
    fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => short(bytes),
        };
        // No name is longer than a body.
        Self { first, last, length: bytes.len() as u32 }
    }

    /// Where it is in a table of some size, which is a power of two, or the first place after one that is taken.
    #[inline]
    fn slot(self, size: usize) -> usize {
        let word = self.first ^ self.last.rotate_left(29) ^ u64::from(self.length);
        // The high half depends on all bits.
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & size.wrapping_sub(1)
    }
}

/// The ends of fewer than eight bytes.
#[inline]
fn short(bytes: &[u8]) -> (u64, u64) {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
        _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
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

/// The place after one. As half of all are free, some place ends every search.
fn next_slot(at: usize, size: usize) -> usize {
    (at + 1) & size.wrapping_sub(1)
}

impl From<Vec<Field>> for Fields {
    /// Takes fields in any order.
    fn from(mut list: Vec<Field>) -> Self {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let mut index =
            vec![Slot { name: Ends::default(), place: FREE }; (2 * list.len()).next_power_of_two()];
        // A struct has far fewer fields than 2^32.
        for (place, field) in (0..).zip(&list) {
            let name = Ends::of(&field.name);
            let mut at = name.slot(index.len());
            while index.get(at).is_some_and(|slot| slot.place != FREE) {
                at = next_slot(at, index.len());
            }
            if let Some(slot) = index.get_mut(at) {
                *slot = Slot { name, place };
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
