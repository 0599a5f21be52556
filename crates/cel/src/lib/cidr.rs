//! Blocks of addresses.

use std::fmt;
use std::net::IpAddr;

use super::ip;
use super::operators::text;
use crate::error::EvalError;
use crate::value::{Opaque, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("cidr", |args| parsed(text(args, 0)?).map(|cidr| Value::Opaque(Opaque::Cidr(cidr)))),
    ("isCIDR", |args| Ok(Value::Bool(Cidr::parse(text(args, 0)?).is_some()))),
    ("containsIP", |args| {
        let ip = match args.get(1) {
            Some(Value::Opaque(Opaque::Ip(ip))) => *ip,
            _ => {
                let text = text(args, 1)?;
                ip::parse(text).map_err(|why| EvalError::failed(format!("IP Address {:?} {why}", &**text)))?
            }
        };
        one(args).map(|cidr| Value::Bool(cidr.contains(ip)))
    }),
    ("containsCIDR", |args| {
        let other = match args.get(1) {
            Some(Value::Opaque(Opaque::Cidr(cidr))) => *cidr,
            _ => parsed(text(args, 1)?)?,
        };
        let cidr = one(args)?;
        Ok(Value::Bool(cidr.prefix <= other.prefix && cidr.contains(other.address)))
    }),
    ("prefixLength", |args| one(args).map(|cidr| Value::Int(i64::from(cidr.prefix)))),
    ("masked", |args| one(args).map(|cidr| Value::Opaque(Opaque::Cidr(cidr.masked())))),
];

/// An address and how many of its first bits name the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address as it was written.
    pub address: IpAddr,
    /// How many bits.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address = ip::parse(address).ok()?;
        let plain = !prefix.starts_with(['0', '+']) || prefix == "0";
        let prefix: u8 = prefix.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (plain && prefix <= bits).then_some(Self { address, prefix })
    }

    fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let host_bits = 32 - u32::from(self.prefix);
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                let host_bits = 128 - u32::from(self.prefix);
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into())
            }
        };
        Self { address, ..self }
    }

    fn contains(self, ip: IpAddr) -> bool {
        self.address.is_ipv4() == ip.is_ipv4() && Self { address: ip, ..self }.masked() == self.masked()
    }
}

fn parsed(text: &str) -> std::result::Result<Cidr, EvalError> {
    let wrong =
        || EvalError::failed(format!("network address parse error during conversion from string: {text:?}"));
    Cidr::parse(text).ok_or_else(wrong)
}

fn one(args: &[Value<'_>]) -> std::result::Result<Cidr, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Cidr(cidr))) => Ok(*cidr),
        _ => Err(EvalError::no_such_overload()),
    }
}
