//! Questions and answers over UDP and TCP: the zone first, then the host's resolvers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::forward::Upstreams;
use crate::zone::{Answer, Zone};

/// Largest answer we send over UDP: what passes every network unfragmented (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;

/// Answers from the newest zone.
pub(crate) struct Handler {
    pub(crate) zone: Arc<ArcSwap<Zone>>,
    pub(crate) upstreams: Upstreams,
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
        let Ok(info) = request.request_info() else { return Reply::failed(ResponseCode::FormErr) };
        let name = info.query.name().to_string();
        let name = name.trim_end_matches('.').to_lowercase();
        let answer = self.zone.load().answer(&name, info.query.query_type());
        match answer {
            Answer::Records(answers) => Reply::ours(ResponseCode::NoError, answers, Vec::new()),
            Answer::NoData(soa) => Reply::ours(ResponseCode::NoError, Vec::new(), vec![soa]),
            Answer::NoName(soa) => Reply::ours(ResponseCode::NXDomain, Vec::new(), vec![soa]),
            Answer::Elsewhere => self.forward(request, info.protocol).await,
        }
    }

    async fn forward(&self, request: &Request, protocol: Protocol) -> Reply {
        match self.upstreams.ask(request.as_slice(), protocol != Protocol::Udp).await {
            Ok(message) => Reply {
                code: message.metadata.response_code,
                authoritative: false,
                answers: message.answers,
                soa: message.authorities,
            },
            Err(error) => {
                tracing::debug!(%error, "a question could not be forwarded");
                Reply::failed(ResponseCode::ServFail)
            }
        }
    }
}

impl Reply {
    fn ours(code: ResponseCode, answers: Vec<Record>, soa: Vec<Record>) -> Self {
        Self { code, authoritative: true, answers, soa }
    }

    fn failed(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), soa: Vec::new() }
    }
}
