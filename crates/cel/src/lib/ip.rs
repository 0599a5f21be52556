//! Addresses. An IPv4 address written as IPv6 is refused, and so are zones.

use std::net::IpAddr;

use super::operators::text;
use crate::error::EvalError;
use crate::value::{Opaque, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("ip", |args| match args.first() {
        Some(Value::Opaque(Opaque::Cidr(cidr))) => Ok(made(cidr.address)),
        _ => {
            let text = text(args, 0)?;
            parse(text).map(made).map_err(|why| EvalError::failed(format!("IP Address {:?} {why}", &**text)))
        }
    }),
    ("isIP", |args| Ok(Value::Bool(parse(text(args, 0)?).is_ok()))),
    ("ip.isCanonical", |args| {
        let text = text(args, 0)?;
        match parse(text) {
            Ok(ip) => Ok(Value::Bool(ip.to_string() == **text)),
            Err(why) => Err(EvalError::failed(format!("IP Address {:?} {why}", &**text))),
        }
    }),
    ("family", |args| one(args).map(|ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
    ("isUnspecified", |args| one(args).map(|ip| Value::Bool(ip.is_unspecified()))),
    ("isLoopback", |args| one(args).map(|ip| Value::Bool(ip.is_loopback()))),
    ("isLinkLocalMulticast", |args| one(args).map(|ip| Value::Bool(is_link_local_multicast(ip)))),
    ("isLinkLocalUnicast", |args| one(args).map(|ip| Value::Bool(is_link_local_unicast(ip)))),
    ("isGlobalUnicast", |args| one(args).map(|ip| Value::Bool(is_global_unicast(ip)))),
];

fn made<'a>(ip: IpAddr) -> Value<'a> {
    Value::Opaque(Opaque::Ip(ip))
}

fn one(args: &[Value<'_>]) -> std::result::Result<IpAddr, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Ip(ip))) => Ok(*ip),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// An address, or why it is refused.
pub fn parse(text: &str) -> std::result::Result<IpAddr, &'static str> {
    if text.contains('%') {
        return Err("with zone value is not allowed");
    }
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Err("IPv4-mapped IPv6 address is not allowed"),
        Ok(ip) => Ok(ip),
        Err(_) => Err("parse error during conversion from string: unable to parse IP"),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
        IpAddr::V6(v6) => v6.segments().first().is_some_and(|first| first & 0xff0f == 0xff02),
    }
}

fn is_link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// As Go has it: private addresses are global too.
fn is_global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast
        && !ip.is_unspecified()
        && !ip.is_loopback()
        && !ip.is_multicast()
        && !is_link_local_unicast(ip)
}
