//! The kernel's connection tracking, asked over netlink: which UDP flows there are, and which of them it shall forget.
//!
//! One listing, and a message for each flow that goes, many in one call: no process is started, however many they are. The
//! messages are nfnetlink's (`linux/netfilter/nfnetlink_conntrack.h`): numbers in the machine's byte order, but addresses and
//! ports in the network's. What names a flow to the kernel is given back to it as it came.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::command::Family;

/// Flows forgotten by one call; the answers to so many fit the socket's buffer.
const AT_ONCE: usize = 64;
/// A listing comes in pieces of at most 32 KiB.
const PIECE: usize = 64 * 1024;

/// Of `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// Of `linux/netfilter/nfnetlink.h` and `nfnetlink_conntrack.h`.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCES: [u16; 2] = [1, 3];
const IP_TARGETS: [u16; 2] = [2, 4];
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE: u16 = 2;
const PROTO_TARGET: u16 = 3;

const UDP: u8 = 17;
/// Length of a message's header, and of what every message of this subsystem has behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// A UDP flow through this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the client sends to.
    pub to: SocketAddr,
    /// Where the answers come from: another address where the kernel translates.
    pub from: SocketAddr,
}

/// Makes the kernel forget the UDP flows of a family that are stale; how many those were.
pub async fn forget_udp(family: Family, stale: impl Fn(&Flow) -> bool + Send + 'static) -> io::Result<usize> {
    // A listing of many flows takes a while.
    tokio::task::spawn_blocking(move || forget(family, stale)).await?
}

fn forget(family: Family, stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(net::netlink::NETFILTER);
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    let gone = list(&socket, family, stale)?;
    for names in gone.chunks(AT_ONCE) {
        let deletions = names.iter().map(|name| message(DELETE, REQUEST | ACK, family, name));
        net::send(&socket, &deletions.collect::<Vec<_>>().concat(), SendFlags::empty())?;
        acknowledged(&socket, names.len())?;
    }
    Ok(gone.len())
}

/// What names the stale flows to the kernel.
fn list(socket: &OwnedFd, family: Family, stale: impl Fn(&Flow) -> bool) -> io::Result<Vec<Vec<u8>>> {
    net::send(socket, &message(GET, REQUEST | DUMP, family, &[]), SendFlags::empty())?;
    let (mut piece, mut gone) = (vec![0; PIECE], Vec::new());
    loop {
        let (length, _) = net::recv(socket, piece.as_mut_slice(), RecvFlags::empty())?;
        for (kind, body) in messages(piece.get(..length).unwrap_or_default()) {
            match kind {
                DONE => return Ok(gone),
                ERROR => outcome(body)?,
                _ => gone.extend(read(body).filter(|(flow, _)| stale(flow)).map(|(_, name)| name)),
            }
        }
    }
}

fn acknowledged(socket: &OwnedFd, count: usize) -> io::Result<()> {
    let (mut piece, mut seen) = (vec![0; PIECE], 0);
    while seen < count {
        let (length, _) = net::recv(socket, piece.as_mut_slice(), RecvFlags::empty())?;
        for (_, body) in messages(piece.get(..length).unwrap_or_default()) {
            seen += 1;
            match outcome(body) {
                // It ended by itself in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// What an answer of the type `ERROR` says; zero is success.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The messages of one piece, each with its type and what is behind its header.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn message(kind: u16, flags: u16, family: Family, attributes: &[u8]) -> Vec<u8> {
    let number = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let mut bytes = Vec::with_capacity(HEADER + GENERIC + attributes.len());
    bytes.extend(((HEADER + GENERIC + attributes.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: there is one conversation, and the kernel knows the socket.
    bytes.extend([0; 8]);
    bytes.extend([number.as_raw() as u8, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The attributes of a message, each with its type and what it holds.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let held = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind & TYPE_MASK, held))
    })
}

fn attribute(kind: u16, held: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(aligned(4 + held.len()));
    bytes.extend((4 + held.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(held);
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// One direction of a flow.
#[derive(Default)]
struct Tuple {
    source: Option<IpAddr>,
    target: Option<IpAddr>,
    protocol: u8,
    source_port: u16,
    target_port: u16,
}

/// Reads a listed flow, and the attributes that name it to the kernel. `None` if it is not of UDP.
fn read(body: &[u8]) -> Option<(Flow, Vec<u8>)> {
    let (mut orig, mut reply, mut name) = (Tuple::default(), Tuple::default(), Vec::new());
    for (kind, held) in attributes(body.get(GENERIC..)?) {
        match kind {
            TUPLE_ORIG => {
                orig = tuple(held);
                name.extend(attribute(kind | NESTED, held));
            }
            TUPLE_REPLY => reply = tuple(held),
            ID | ZONE => name.extend(attribute(kind, held)),
            _ => {}
        }
    }
    let flow = Flow {
        to: SocketAddr::new(orig.target?, orig.target_port),
        from: SocketAddr::new(reply.source?, reply.source_port),
    };
    (orig.protocol == UDP).then_some((flow, name))
}

fn tuple(held: &[u8]) -> Tuple {
    let mut tuple = Tuple::default();
    for (kind, held) in attributes(held) {
        for (inner, value) in attributes(held) {
            let port = || value.first_chunk().map(|port| u16::from_be_bytes(*port)).unwrap_or_default();
            match (kind, inner) {
                (TUPLE_IP, inner) if IP_SOURCES.contains(&inner) => tuple.source = address(value),
                (TUPLE_IP, inner) if IP_TARGETS.contains(&inner) => tuple.target = address(value),
                (TUPLE_PROTO, PROTO_NUMBER) => tuple.protocol = value.first().copied().unwrap_or_default(),
                (TUPLE_PROTO, PROTO_SOURCE) => tuple.source_port = port(),
                (TUPLE_PROTO, PROTO_TARGET) => tuple.target_port = port(),
                _ => {}
            }
        }
    }
    tuple
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*value.first_chunk::<16>()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
        attribute(kind | NESTED, &parts.concat())
    }

    fn direction(kind: u16, source: [u8; 4], target: [u8; 4], ports: [u16; 2], protocol: u8) -> Vec<u8> {
        let address = nested(TUPLE_IP, &[attribute(1, &source), attribute(2, &target)]);
        let [from, to] = ports.map(u16::to_be_bytes);
        let numbers = [
            attribute(PROTO_NUMBER, &[protocol]),
            attribute(PROTO_SOURCE, &from),
            attribute(PROTO_TARGET, &to),
        ];
        nested(kind, &[address, nested(TUPLE_PROTO, &numbers)])
    }

    /// A flow of a client to 10.43.0.9:53 that an endpoint answers.
    fn listed(protocol: u8) -> Vec<u8> {
        let (client, service, pod) = ([192, 0, 2, 1], [10, 43, 0, 9], [10, 42, 0, 2]);
        [
            direction(TUPLE_ORIG, client, service, [1111, 53], protocol),
            direction(TUPLE_REPLY, pod, client, [8053, 1111], protocol),
            attribute(ID, &7u32.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn a_flow_is_read_and_named_as_it_came() {
        let piece = [message(GET, 0, Family::V4, &listed(UDP)), message(DONE, 0, Family::V4, &[])].concat();
        let all: Vec<_> = messages(&piece).collect();
        assert_eq!(all.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [GET, DONE]);
        let (flow, name) = read(all[0].1).unwrap();
        let expected = Flow { to: "10.43.0.9:53".parse().unwrap(), from: "10.42.0.2:8053".parse().unwrap() };
        assert_eq!(flow, expected);
        let kinds: Vec<u16> = attributes(&name).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [TUPLE_ORIG, ID], "the way back does not name it");
        assert!(listed(UDP).starts_with(
            attributes(&name).next().map(|(k, v)| attribute(k | NESTED, v)).unwrap().as_slice()
        ));
    }

    #[test]
    fn what_is_cut_short_or_not_udp_is_no_flow() {
        assert!(read(&[&[0; GENERIC][..], &listed(6)].concat()).is_none());
        let whole = message(GET, 0, Family::V4, &listed(UDP));
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0);
            assert!(
                read(whole[..length].get(HEADER..).unwrap_or_default())
                    .is_none_or(|(_, name)| !name.is_empty())
            );
        }
    }

    #[test]
    fn answers_are_told() {
        assert!(outcome(&0i32.to_ne_bytes()).is_ok());
        assert_eq!(outcome(&(-2i32).to_ne_bytes()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(outcome(&[]).is_err());
    }
}
