//! Addresses: which one is this node's, and the arithmetic of IPv4 ranges.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use crate::Error;

/// An IPv4 range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    bits: u8,
}

impl Range {
    /// Reads `address/bits`; host bits are dropped.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::Range(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().ok().filter(|b| (1..=32).contains(b)).ok_or_else(bad)?;
        Ok(Self { base: u32::from(address) & mask(bits), bits })
    }

    /// The address at an offset, if the range holds it.
    pub fn at(self, offset: u32) -> Option<Ipv4Addr> {
        let inside = u64::from(offset) < 1u64 << (32 - self.bits);
        inside.then(|| Ipv4Addr::from(self.base + offset))
    }

    /// The part of the range with the given index and size, as `10.42.3.0/24` of `10.42.0.0/16`.
    pub fn part(self, index: u32, bits: u8) -> Option<String> {
        let step = 1u32.checked_shl(u32::from(32u8.checked_sub(bits)?))?;
        let base = self.at(index.checked_mul(step)?)?;
        (bits >= self.bits).then(|| format!("{base}/{bits}"))
    }

    /// Whether the address lies inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.bits) == self.base
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX << (32 - u32::from(bits))
}

/// The address by which this node reaches others: the source address of its default route, else loopback.
///
/// Connecting a datagram socket asks the routing table and sends nothing (the target is TEST-NET-3, RFC 5737).
pub fn node_address() -> Result<IpAddr, Error> {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match probe() {
        Ok(address) => Ok(address),
        Err(error) if unreachable(&error) => Ok(Ipv4Addr::LOCALHOST.into()),
        Err(error) => Err(Error::NodeAddress(error)),
    }
}

fn unreachable(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), NetworkUnreachable | HostUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_know_their_parts() {
        let range = Range::parse("10.42.0.7/16").unwrap();
        assert_eq!(range.at(10).unwrap().to_string(), "10.42.0.10");
        assert_eq!(range.part(3, 24).unwrap(), "10.42.3.0/24");
        assert_eq!(range.part(256, 24), None);
        assert_eq!(range.at(1 << 16), None);
        assert!(range.contains("10.42.255.1".parse().unwrap()));
        assert!(!range.contains("10.43.0.1".parse().unwrap()));
        assert!(
            Range::parse("10.42.0.0").is_err()
                && Range::parse("x/8").is_err()
                && Range::parse("1.2.3.4/0").is_err()
        );
    }

    #[test]
    fn this_machine_has_an_address() {
        assert!(!node_address().unwrap().is_unspecified());
    }
}
