//! The order of a merged list.
//!
//! Items that the patch (or its `$setElementOrder`) names come in the patch's order; the server's own items keep
//! theirs; the two are interleaved so that a server item stays before the named items it stood before.

use std::collections::HashMap;

use crate::Value;

/// The place of each identity in a list; the first counts.
pub(super) struct Places<'v>(HashMap<&'v Value, usize>);

impl<'v> Places<'v> {
    pub(super) fn new(identities: impl Iterator<Item = &'v Value>) -> Self {
        let mut places = HashMap::new();
        for (at, identity) in identities.enumerate() {
            places.entry(identity).or_insert(at);
        }
        Self(places)
    }

    pub(super) fn get(&self, identity: &Value) -> Option<usize> {
        self.0.get(identity).copied()
    }
}

/// Orders merged items. `identity` gives what an item is known by; an item without one is the server's.
pub(super) fn arrange<'v>(
    merged: Vec<Value>,
    named: &Places<'_>,
    before: &Places<'_>,
    identity: impl Fn(&Value) -> Option<&Value> + 'v,
) -> Vec<Value> {
    let place_in = |places: &Places<'_>, item: &Value| identity(item).and_then(|i| places.get(i));
    let (mut ours, servers): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place_in(named, item).is_some());
    ours.sort_by_key(|item| place_in(named, item));
    let mut all = Vec::with_capacity(ours.len() + servers.len());
    let (mut ours, mut servers) = (ours.into_iter().peekable(), servers.into_iter().peekable());
    loop {
        let next = match (servers.peek(), ours.peek()) {
            (Some(server), Some(our)) => match (place_in(before, server), place_in(before, our)) {
                (Some(s), Some(o)) if s < o => servers.next(),
                _ => ours.next(),
            },
            (Some(_), None) => servers.next(),
            _ => ours.next(),
        };
        match next {
            Some(item) => all.push(item),
            None => return all,
        }
    }
}
