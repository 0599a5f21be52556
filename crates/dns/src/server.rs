//! Questions and answers, however they come: the zone first, then the host's resolvers.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::forward::{Forwarded, Upstreams};
use crate::zone::{Answer, Zone};

/// Largest answer we send over UDP: what passes every network unfragmented (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;

/// How long a question waits for the cluster's names after a start: less than those who ask do.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many aliases may lead to one another.
const ALIASES_MAX: usize = 8;

/// Answers from the newest zone.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) zone: Arc<RwLock<Zone>>,
    pub(crate) upstreams: Arc<Upstreams>,
    /// Whether the zone is complete.
    pub(crate) complete: watch::Receiver<bool>,
}

/// What goes back.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    soa: Vec<Record>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX).set_version(0);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let none: [Record; 0] = [];
        let message = builder.build(metadata, &reply.answers, &none, &reply.soa, &none);
        match handle.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "an answer could not be sent");
                ResponseInfo::from(hickory_proto::op::Header {
                    metadata,
                    counts: hickory_proto::op::HeaderCounts::default(),
                })
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::failed(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::failed(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else { return Reply::failed(ResponseCode::FormErr) };
        if info.query.query_class() != DNSClass::IN {
            return Reply::failed(ResponseCode::Refused);
        }
        let resolved = self.resolve(Name::from(info.query.name()), info.query.query_type()).await;
        resolved.unwrap_or_else(|| Reply::failed(ResponseCode::ServFail))
    }

    /// Waits until the zone is complete; `None` if that takes too long.
    async fn completed(&self) -> Option<()> {
        let mut complete = self.complete.clone();
        let complete = tokio::time::timeout(PATIENCE, complete.wait_for(|complete| *complete));
        complete.await.ok()?.ok().map(drop)
    }

    /// Answers a question, and goes on to where an alias leads: those who ask do not go themselves. `None` if that is not
    /// known, or has no end.
    async fn resolve(&self, mut name: Name, kind: RecordType) -> Option<Reply> {
        let mut found = Vec::new();
        for _ in 0..ALIASES_MAX {
            let text = name.to_lowercase().to_utf8();
            let text = text.trim_end_matches('.');
            let answer = self.zone.read().answer(text, kind);
            match answer {
                Answer::Records(records) => {
                    let target = alias(&records, kind);
                    found.extend(records);
                    match target {
                        Some(target) => name = target,
                        None => return Some(Reply::ours(ResponseCode::NoError, found, Vec::new())),
                    }
                }
                Answer::NoData(soa) => return Some(Reply::ours(ResponseCode::NoError, found, vec![soa])),
                Answer::NoName(soa) => return Some(Reply::ours(ResponseCode::NXDomain, found, vec![soa])),
                Answer::Unknown => self.completed().await?,
                Answer::Elsewhere => {
                    return Some(Reply::theirs(found, self.upstreams.ask(name, text, kind).await));
                }
            }
        }
        None
    }
}

/// Where an alias leads, unless it was asked for itself.
fn alias(records: &[Record], kind: RecordType) -> Option<Name> {
    match records {
        [Record { data: RData::CNAME(target), .. }]
            if kind != RecordType::CNAME && kind != RecordType::ANY =>
        {
            Some(target.0.clone())
        }
        _ => None,
    }
}

impl Reply {
    fn ours(code: ResponseCode, answers: Vec<Record>, soa: Vec<Record>) -> Self {
        Self { code, authoritative: true, answers, soa }
    }

    /// What others said, behind the aliases that led to them. An alias is an answer even if its target has none.
    fn theirs(mut aliases: Vec<Record>, forwarded: Forwarded) -> Self {
        let (ours, failed) = (!aliases.is_empty(), forwarded.code == ResponseCode::ServFail);
        let code = if ours && failed { ResponseCode::NoError } else { forwarded.code };
        aliases.extend(forwarded.answers);
        Self { code, authoritative: ours, answers: aliases, soa: forwarded.authorities }
    }

    fn failed(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), soa: Vec::new() }
    }
}
