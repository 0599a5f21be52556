//! A stretch of keys, as ranges, watches, conditions and deletions name it.

use crate::Key;

/// The keys `start <= key < end`, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first key that may be in it.
    pub start: Key,
    /// The first key that is not in it any more; none = it goes to the end of all keys.
    pub end: Option<Key>,
}

impl Span {
    /// Everything under a prefix, such as `/registry/pods/` (give the slash); the empty prefix is everything.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start = prefix.into();
        let end = after_prefix(start.as_bytes());
        Self { start, end }
    }

    /// One key.
    pub fn key(key: impl Into<Key>) -> Self {
        let start = key.into();
        let end = Some(successor(&start));
        Self { start, end }
    }

    /// The part of it after `key`.
    pub fn after(self, key: &Key) -> Self {
        Self { start: self.start.max(successor(key)), end: self.end }
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_bytes() && self.end.as_ref().is_none_or(|end| key < end.as_bytes())
    }

    /// The key, if there can be only one.
    pub fn only(&self) -> Option<&Key> {
        let (last, rest) = self.end.as_ref()?.as_bytes().split_last()?;
        (*last == 0 && rest == self.start.as_bytes()).then_some(&self.start)
    }
}

/// The smallest key after `key`.
fn successor(key: &Key) -> Key {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0);
    Key::from(bytes)
}

/// The first key after all that begin with `prefix`; none if there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Key> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(Key::from(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_it_says() {
        let prefix = Span::prefix("/a");
        assert!(prefix.contains(b"/a") && prefix.contains(b"/a\xff") && !prefix.contains(b"/b"));
        assert_eq!(prefix.only(), None);
        assert_eq!(Span::prefix(&[0xff, 0xff][..]).end, None);
        let one = Span::key("/a");
        assert!(one.contains(b"/a") && !one.contains(b"/a\0") && !one.contains(b"/"));
        assert_eq!(one.only(), Some(&Key::from("/a")));
        assert_eq!(Span::prefix("/").after(&"/a".into()).start, Key::from("/a\0"));
    }
}
