//! Addresses and ranges as text: strict and canonical forms, and what an endpoint cannot have.

use std::net::IpAddr;
use std::str::FromStr;

/// What is said of a text that is no range.
pub const NOT_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
/// What is said of a text that is no address.
pub const NOT_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = text.split_once('/').ok_or(NOT_CIDR)?;
        let address: IpAddr = address.parse().map_err(|_| NOT_CIDR)?;
        if !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NOT_CIDR);
        }
        let cidr = Self { address, bits: bits.parse().map_err(|_| NOT_CIDR)? };
        if cidr.bits <= cidr.width() { Ok(cidr) } else { Err(NOT_CIDR) }
    }
}

impl Cidr {
    fn width(&self) -> u8 {
        if self.is_ipv4() { 32 } else { 128 }
    }

    /// Whether it is of the older family.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The first address.
    fn base(&self) -> u128 {
        let number = match self.address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let free = u32::from(self.width() - self.bits);
        number.checked_shr(free).and_then(|base| base.checked_shl(free)).unwrap_or(0)
    }

    /// Whether another range is a part of this one, and not all of it.
    pub fn is_within(&self, inner: &Self) -> bool {
        let same = self.is_ipv4() == inner.is_ipv4() && self.bits < inner.bits;
        same && Self { bits: self.bits, ..*inner }.base() == self.base()
    }

    fn canonical(&self) -> String {
        let base = self.base();
        let address = match u32::try_from(base) {
            Ok(base) if self.is_ipv4() => IpAddr::V4(base.into()),
            _ => IpAddr::V6(base.into()),
        };
        format!("{address}/{}", self.bits)
    }
}

/// What keeps a text from being a range in its one right form.
pub fn canonical_cidr(text: &str) -> Vec<String> {
    match text.parse::<Cidr>() {
        Err(why) => vec![why.into()],
        Ok(cidr) if cidr.canonical() == text => Vec::new(),
        Ok(cidr) if cidr.base() != (Cidr { bits: cidr.width(), ..cidr }).base() => {
            vec!["must not have bits set beyond the prefix length".into()]
        }
        Ok(cidr) => vec![format!("must be in canonical form ({:?})", cidr.canonical())],
    }
}

/// What keeps a text from being an address in its one right form.
pub fn canonical_ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => vec![NOT_IP.into()],
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".into()]
        }
        Ok(address) if address.to_string() == text => Vec::new(),
        Ok(address) => vec![format!("must be in canonical form (\"{address}\")")],
    }
}

/// Why no endpoint can have this address.
pub fn not_for_endpoints(address: IpAddr) -> Option<String> {
    let (local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets().starts_with(&[224, 0, 0])),
        // The scope is in the last four bits; those before say how the address was made.
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        return Some(format!("may not be unspecified ({address})"));
    }
    let range = match (address.is_loopback(), local, multicast) {
        (true, ..) => "loopback range (127.0.0.0/8, ::1/128)",
        (_, true, _) => "link-local range (169.254.0.0/16, fe80::/10)",
        (.., true) => "link-local multicast range (224.0.0.0/24, ff02::/10)",
        _ => return None,
    };
    Some(format!("may not be in the {range}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_in_ranges() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        assert!(cidr("10.0.0.0/8").is_within(&cidr("10.1.0.0/16")));
        assert!(cidr("0.0.0.0/0").is_within(&cidr("10.1.0.0/16")));
        assert!(cidr("::/0").is_within(&cidr("2001:db8::/32")));
        assert!(!cidr("10.0.0.0/8").is_within(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/8").is_within(&cidr("11.0.0.0/16")));
        assert!(!cidr("::/0").is_within(&cidr("10.1.0.0/16")));
        for text in ["10.0.0.0/+8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0", "x/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(NOT_CIDR), "{text}");
        }
    }

    #[test]
    fn endpoints_are_not_on_the_link() {
        for (address, known) in [
            ("10.0.0.1", false),
            ("2001:db8::1", false),
            ("127.0.0.1", true),
            ("::", true),
            ("fe80::1", true),
            ("ff02::1", true),
            ("ff12::1", true),
            ("ff05::1", false),
            ("224.0.0.1", true),
            ("224.0.1.1", false),
        ] {
            assert_eq!(not_for_endpoints(address.parse().unwrap()).is_some(), known, "{address}");
        }
    }

    #[test]
    fn there_is_one_right_form() {
        assert!(canonical_cidr("10.0.0.0/8").is_empty() && canonical_cidr("::/0").is_empty());
        assert_eq!(canonical_cidr("10.0.0.1/8"), ["must not have bits set beyond the prefix length"]);
        assert_eq!(canonical_cidr("2001:DB8::/32"), ["must be in canonical form (\"2001:db8::/32\")"]);
        assert_eq!(canonical_ip("2001:0db8::1"), ["must be in canonical form (\"2001:db8::1\")"]);
    }
}
