//! Objects in key order: the order of `namespace/name` as bytes, which is the store's order and that of lists.
//!
//! The set holds objects alone; their headers are the keys, so no key text is kept beside them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use tiphys_api::Object;

/// An object as a member of an ordered set.
#[derive(Clone, Debug)]
pub struct ByKey(pub Object);

/// Objects in key order.
pub type Ordered = BTreeSet<ByKey>;

/// Anything with a place in the order.
pub trait Keyed {
    /// Namespace (empty for cluster-scoped) and name.
    fn key(&self) -> (&str, &str);
}

impl Keyed for ByKey {
    fn key(&self) -> (&str, &str) {
        (&self.0.meta().namespace, &self.0.meta().name)
    }
}

impl Keyed for (&str, &str) {
    fn key(&self) -> (&str, &str) {
        *self
    }
}

/// The order of `namespace/name` as bytes, found without joining them.
pub fn compare(a: (&str, &str), b: (&str, &str)) -> Ordering {
    if a.0 == b.0 {
        return a.1.cmp(b.1);
    }
    // Where one namespace is the beginning of the other, the slash after it decides.
    a.0.bytes().chain(std::iter::once(b'/')).cmp(b.0.bytes().chain(std::iter::once(b'/')))
}

/// An owned key in the same order.
#[derive(Clone, Debug)]
pub struct Key(pub Box<str>, pub Box<str>);

impl Keyed for Key {
    fn key(&self) -> (&str, &str) {
        (&self.0, &self.1)
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for dyn Keyed + '_ {}
impl PartialOrd for dyn Keyed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for dyn Keyed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.key(), other.key())
    }
}

macro_rules! ordered_by_key {
    ($($name:ty),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.key() == other.key()
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                compare(self.key(), other.key())
            }
        }
    )*};
}
ordered_by_key!(ByKey, Key);

impl<'a> Borrow<dyn Keyed + 'a> for ByKey {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        self
    }
}

/// The object of a key.
pub fn find<'o>(objects: &'o Ordered, namespace: &str, name: &str) -> Option<&'o Object> {
    objects.get::<dyn Keyed>(&(namespace, name)).map(|o| &o.0)
}

/// All objects from a key on (included), within a namespace unless it is empty.
pub fn from<'o>(
    objects: &'o Ordered,
    start: (&str, &str),
    namespace: &str,
) -> impl Iterator<Item = &'o Object> + use<'o> {
    let first = match (start.0.is_empty() && start.1.is_empty(), namespace) {
        (true, namespace) => (namespace, ""),
        (false, _) => start,
    };
    let within: Box<str> = namespace.into();
    objects
        .range::<dyn Keyed, _>((Bound::Included(&first as &dyn Keyed), Bound::Unbounded))
        .map(|o| &o.0)
        .take_while(move |o| within.is_empty() || o.meta().namespace == within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, name: &str) -> ByKey {
        let json = format!(r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}"}}}}"#);
        ByKey(Object::parse(json.into()).unwrap())
    }

    #[test]
    fn order_is_that_of_the_keys_text() {
        let set: Ordered =
            [("a", "z"), ("a-b", "a"), ("a", "b"), ("b", "a")].map(|(n, m)| object(n, m)).into();
        let keys: Vec<String> = set.iter().map(|o| o.0.meta().key()).collect();
        assert_eq!(keys, ["a-b/a", "a/b", "a/z", "b/a"]);
        let names: Vec<&str> = from(&set, ("", ""), "a").map(|o| o.meta().name.as_ref()).collect();
        assert_eq!(names, ["b", "z"]);
        let rest: Vec<String> = from(&set, ("a", "c"), "").map(|o| o.meta().key()).collect();
        assert_eq!(rest, ["a/z", "b/a"]);
        assert!(find(&set, "a", "b").is_some() && find(&set, "a", "c").is_none());
    }
}
