//! Names outside the cluster: the host's resolvers are asked, or those of a stub domain, and their answers kept for a while.
//!
//! hickory's resolver does the asking: several servers, TCP where an answer does not fit, one question for all who ask the
//! same, answers and absences kept as long as they say, at most [`KEPT_MAX`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use serde::{Deserialize, Serialize};

use crate::zone::within;

/// Where resolvers listen.
const PORT: u16 = 53;
/// How long one resolver may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is kept at most, as CoreDNS is usually told.
const KEPT_MAX: Duration = Duration::from_secs(30);
/// How many answers are kept.
const ANSWERS_MAX: u64 = 10_000;

/// A domain that has resolvers of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StubDomain {
    /// Lower case, without the last dot.
    pub domain: String,
    /// Whom to ask, over UDP and TCP.
    pub servers: Vec<SocketAddr>,
}

/// Why a text is no stub domain.
#[derive(Debug, thiserror::Error)]
#[error("write it as DOMAIN=IP[:PORT],..., for example corp.example=10.0.0.53")]
pub struct NoStubDomain;

impl FromStr for StubDomain {
    type Err = NoStubDomain;

    /// Reads `domain=address,address`.
    fn from_str(text: &str) -> Result<Self, NoStubDomain> {
        let (domain, servers) = text.split_once('=').ok_or(NoStubDomain)?;
        let domain = domain.trim().trim_end_matches('.').to_lowercase();
        let server =
            |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, PORT).into()));
        let servers = servers.split(',').map(|text| server(text.trim()));
        let servers: Vec<_> = servers.collect::<Result<_, _>>().map_err(|_| NoStubDomain)?;
        if domain.is_empty() || Name::from_utf8(&domain).is_err() {
            Err(NoStubDomain)
        } else {
            Ok(Self { domain, servers })
        }
    }
}

/// Whom to ask about names outside the cluster.
pub struct Upstreams {
    /// The longest domain first; the last one is of all names.
    domains: Vec<(String, TokioResolver)>,
}

/// What they said.
#[derive(Debug)]
pub struct Forwarded {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
}

impl Upstreams {
    /// The host's resolvers, by the `nameserver` lines of a file, and stub domains. Our own address is left out: it would ask
    /// itself.
    pub fn new(resolv_conf: &Path, own: IpAddr, stubs: &[StubDomain]) -> Result<Self, NetError> {
        let text = std::fs::read_to_string(resolv_conf)
            .inspect_err(
                |error| tracing::warn!(%error, file = %resolv_conf.display(), "cannot read resolvers"),
            )
            .unwrap_or_default();
        let host = StubDomain { domain: String::new(), servers: parse(&text, own) };
        let mut domains = Vec::with_capacity(stubs.len() + 1);
        for stub in stubs.iter().chain([&host]).filter(|stub| !stub.servers.is_empty()) {
            domains.push((stub.domain.clone(), resolver(stub)?));
        }
        domains.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        Ok(Self { domains })
    }

    /// Asks. A failure is an answer too.
    pub async fn ask(&self, name: Name, text: &str, kind: RecordType) -> Forwarded {
        let fits = |domain: &str| domain.is_empty() || within(domain, text);
        let Some((_, resolver)) = self.domains.iter().find(|(domain, _)| fits(domain)) else {
            tracing::debug!(name = text, "the host's resolv.conf names no server to ask");
            return Forwarded::failed(ResponseCode::ServFail);
        };
        match resolver.lookup(name, kind).await {
            Ok(found) => Forwarded {
                code: ResponseCode::NoError,
                answers: found.answers().to_vec(),
                authorities: Vec::new(),
            },
            Err(error) => Forwarded::refused(error, text),
        }
    }
}

impl Forwarded {
    fn failed(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new() }
    }

    fn refused(error: NetError, name: &str) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => Self {
                code: none.response_code,
                answers: Vec::new(),
                authorities: none.soa.map(|soa| soa.into_record_of_rdata()).into_iter().collect(),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => Self::failed(code),
            error => {
                tracing::debug!(%error, name, "a question could not be forwarded");
                Self::failed(ResponseCode::ServFail)
            }
        }
    }
}

fn resolver(stub: &StubDomain) -> Result<TokioResolver, NetError> {
    let servers = stub.servers.iter().map(|address| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        server.connections.iter_mut().for_each(|connection| connection.port = address.port());
        server
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.cache_size = ANSWERS_MAX;
    options.positive_max_ttl = Some(KEPT_MAX);
    options.negative_max_ttl = Some(KEPT_MAX);
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true;
    // A port of its own for each question, chosen by the kernel, is what makes answers hard to forge.
    options.os_port_selection = true;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

fn parse(text: &str, own: IpAddr) -> Vec<SocketAddr> {
    let servers =
        text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    let asks_us = |ip: &IpAddr| *ip == own || *ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    servers.filter(|ip| !asks_us(ip)).map(|ip| (ip, PORT).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_is_no_upstream() {
        let text = "# x\nsearch a\nnameserver 192.0.2.1\nnameserver 10.43.0.10\nnameserver ::1\n";
        let servers = parse(text, [10, 43, 0, 10].into());
        assert_eq!(servers, ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }

    #[test]
    fn stub_domains_are_read() {
        let stub: StubDomain = "Corp.Example.=10.0.0.53,[::1]:5353".parse().unwrap();
        assert_eq!(stub.domain, "corp.example");
        assert_eq!(stub.servers, ["10.0.0.53:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
        for wrong in ["", "corp.example", "=10.0.0.1", "corp.example=", "corp.example=ns1"] {
            assert!(wrong.parse::<StubDomain>().is_err(), "{wrong}");
        }
    }
}
