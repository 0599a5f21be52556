//! An address range, counted from its first address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range as `10.43.0.0/16`. Addresses are numbered: 0 is the network's own, which is never given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// A text that is no range of Service addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `ADDRESS/BITS`.
    #[error("{0:?} is not an address range such as 10.43.0.0/16")]
    Form(String),
    /// Too few addresses for a cluster.
    #[error("{0:?} is too small a range: it must hold at least 8 addresses")]
    Small(String),
}

/// IPv6 ranges are used up to so many addresses, as kube-apiserver does.
const MAX_BITS: u32 = 16;

impl Cidr {
    /// The first address that can be given out: that of the `kubernetes` Service.
    pub fn first_address(&self) -> IpAddr {
        self.address(1)
    }

    /// Whether it holds IPv6 addresses.
    pub fn is_v6(&self) -> bool {
        self.base.is_ipv6()
    }

    /// How many addresses are numbered, the first (network) and for IPv4 the last (broadcast) included.
    pub fn size(&self) -> u32 {
        1 << self.host_bits().min(if self.is_v6() { MAX_BITS } else { 31 })
    }

    /// Numbers that may be given out: `1..end`.
    pub fn end(&self) -> u32 {
        if self.is_v6() { self.size() } else { self.size() - 1 }
    }

    /// The address with a number.
    pub fn address(&self, number: u32) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(number)).into(),
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(number.into())).into(),
        }
    }

    /// Whether an address may be given out from this range.
    pub fn gives(&self, address: IpAddr) -> bool {
        self.number(address).is_some_and(|number| number >= 1 && number < u128::from(self.end()))
    }

    fn number(&self, address: IpAddr) -> Option<u128> {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(one)) => one.to_bits().checked_sub(base.to_bits()).map(u128::from),
            (IpAddr::V6(base), IpAddr::V6(one)) => one.to_bits().checked_sub(base.to_bits()),
            _ => None,
        }
    }

    fn host_bits(&self) -> u32 {
        let width: u8 = if self.is_v6() { 128 } else { 32 };
        u32::from(width - self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let form = || CidrError::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let prefix: u8 = prefix.parse().map_err(|_| form())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > width {
            return Err(form());
        }
        if width - prefix < 3 {
            return Err(CidrError::Small(text.to_owned()));
        }
        let base = match address {
            IpAddr::V4(one) => IpAddr::V4(Ipv4Addr::from_bits(one.to_bits() & (u32::MAX << (32 - prefix)))),
            IpAddr::V6(one) => IpAddr::V6(Ipv6Addr::from_bits(one.to_bits() & (u128::MAX << (128 - prefix)))),
        };
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_counted() {
        let cidr: Cidr = "10.43.7.9/16".parse().unwrap();
        assert_eq!(
            (cidr.to_string().as_str(), cidr.first_address().to_string().as_str()),
            ("10.43.0.0/16", "10.43.0.1")
        );
        let gives = |text: &str| cidr.gives(text.parse().unwrap());
        assert!(gives("10.43.0.1") && gives("10.43.255.254"));
        assert!(
            !gives("10.43.0.0")
                && !gives("10.43.255.255")
                && !gives("10.44.0.1")
                && !gives("10.42.1.1")
                && !gives("::1")
        );
        let six: Cidr = "fd00:1::/108".parse().unwrap();
        assert!(six.gives("fd00:1::ffff".parse().unwrap()) && !six.gives("fd00:1::1:0".parse().unwrap()));
        for bad in ["", "10.43.0.0", "10.43.0.0/33", "x/8", "0.0.0.0/0"] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError::Form(bad.to_owned())));
        }
        assert!(matches!("10.0.0.0/30".parse::<Cidr>(), Err(CidrError::Small(_))));
    }
}
