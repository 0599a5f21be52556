//! Notes on what was given to Services that are not seen in the cache yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::held::Held;

/// Longer than any write takes. A write that failed leaves its notes until then; the same Service may take them again.
const NOTE_LIFE: Duration = Duration::from_secs(60);

/// Something that one Service holds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    Address(IpAddr),
    Port(u16),
}

/// The notes: to whom, and when.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<Thing, (String, Instant)>);

/// One Service's requests, before they are noted.
pub(super) struct Claim<'a> {
    held: &'a Held,
    pending: &'a Pending,
    key: &'a str,
    taken: Vec<Thing>,
}

impl Pending {
    /// Drops notes of what is seen held by now, and old ones.
    pub(super) fn forget(&mut self, held: &Held, now: Instant) {
        self.0.retain(|thing, (key, since)| {
            now.duration_since(*since) < NOTE_LIFE && holder(held, *thing) != Some(key.as_str())
        });
    }

    /// Notes what a Service got.
    pub(super) fn note(&mut self, key: &str, things: Vec<Thing>, now: Instant) {
        self.0.extend(things.into_iter().map(|thing| (thing, (key.to_owned(), now))));
    }
}

fn holder(held: &Held, thing: Thing) -> Option<&str> {
    match thing {
        Thing::Address(address) => held.address(&address),
        Thing::Port(port) => held.port(port),
    }
}

impl<'a> Claim<'a> {
    /// Nothing yet, for the Service `key`.
    pub(super) fn new(held: &'a Held, pending: &'a Pending, key: &'a str) -> Self {
        Self { held, pending, key, taken: Vec::new() }
    }

    /// What was taken.
    pub(super) fn taken(self) -> Vec<Thing> {
        self.taken
    }

    /// Whether someone holds an address, or this claim does.
    pub(super) fn holds_address(&self, address: IpAddr) -> bool {
        self.in_use(Thing::Address(address))
    }

    /// Whether someone holds a port, or this claim does.
    pub(super) fn holds_port(&self, port: u16) -> bool {
        self.in_use(Thing::Port(port))
    }

    /// Takes an address; false when another Service has it.
    pub(super) fn take_address(&mut self, address: IpAddr) -> bool {
        self.take(Thing::Address(address))
    }

    /// Takes a port; false when another Service has it.
    pub(super) fn take_port(&mut self, port: u16) -> bool {
        self.take(Thing::Port(port))
    }

    fn in_use(&self, thing: Thing) -> bool {
        holder(self.held, thing).is_some()
            || self.pending.0.contains_key(&thing)
            || self.taken.contains(&thing)
    }

    fn take(&mut self, thing: Thing) -> bool {
        let noted = self.pending.0.get(&thing).map(|(key, _)| key.as_str());
        let free =
            [holder(self.held, thing), noted].iter().all(|other| other.is_none_or(|key| key == self.key));
        if free {
            self.taken.push(thing);
        }
        free
    }
}
