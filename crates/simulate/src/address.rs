//! Addresses of simulated pods: nobody reaches them, but no two living pods share one, as consumers expect.

use std::collections::HashMap;
use std::net::Ipv4Addr;

/// 10.128.0.0/9: half of the private range that clusters use, the upper one.
const FIRST: u32 = 0x0a80_0000;
const COUNT: u32 = 1 << 23;

/// Who has which address.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_pod: HashMap<Box<str>, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, Box<str>>,
    next: u32,
}

impl Addresses {
    /// The address of a pod, which it keeps until [`Self::free`].
    pub(crate) fn take(&mut self, uid: &str) -> Ipv4Addr {
        if let Some(address) = self.by_pod.get(uid) {
            return *address;
        }
        let mut address = self.candidate();
        // There are more addresses than pods could be.
        while self.by_address.contains_key(&address) {
            address = self.candidate();
        }
        self.keep(uid, address);
        address
    }

    /// Notes an address that a pod has already.
    pub(crate) fn keep(&mut self, uid: &str, address: Ipv4Addr) {
        self.by_pod.insert(uid.into(), address);
        self.by_address.insert(address, uid.into());
    }

    /// The pod is gone.
    pub(crate) fn free(&mut self, uid: &str) {
        let Some(address) = self.by_pod.remove(uid) else { return };
        if self.by_address.get(&address).is_some_and(|holder| **holder == *uid) {
            self.by_address.remove(&address);
        }
    }

    fn candidate(&mut self) -> Ipv4Addr {
        self.next = (self.next + 1) % COUNT;
        Ipv4Addr::from_bits(FIRST + self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_pods_share_no_address() {
        let mut addresses = Addresses::default();
        addresses.keep("old", Ipv4Addr::new(10, 128, 0, 2));
        let first = addresses.take("a");
        assert_eq!((first, addresses.take("a")), (Ipv4Addr::new(10, 128, 0, 1), first));
        assert_eq!(addresses.take("b"), Ipv4Addr::new(10, 128, 0, 3));
        addresses.free("a");
        addresses.next = 0;
        assert_eq!(addresses.take("c"), first);
    }
}
