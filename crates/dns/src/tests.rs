//! The server as its clients see it, over UDP and TCP, with a cluster in memory behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tiphys_api::Status;
use tiphys_client::fake::FakeClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::{Config, StubDomain, serve};

const WITHIN: Duration = Duration::from_secs(20);

/// A running server. Dropping it ends it.
struct Server {
    udp: SocketAddr,
    tcp: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(client: &FakeClient, domain: &str, stub_domains: Vec<StubDomain>) -> Self {
        let sockets =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (udp, tcp) = (sockets.0.local_addr().unwrap(), sockets.1.local_addr().unwrap());
        let config =
            Config { listen: udp, domain: domain.into(), resolv_conf: "/dev/null".into(), stub_domains };
        let client = Arc::new(client.clone());
        let run = async move { serve(sockets, &config, client, CancellationToken::new()).await.unwrap() };
        Self { udp, tcp, _task: AbortOnDropHandle::new(tokio::spawn(run)) }
    }

    async fn udp(&self, question: &Message) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&question.to_vec().unwrap(), self.udp).await.unwrap();
        let mut answer = vec![0; 65_535];
        let read = tokio::time::timeout(WITHIN, socket.recv(&mut answer)).await.unwrap().unwrap();
        Message::from_vec(&answer[..read]).unwrap()
    }

    async fn tcp(&self, question: &Message) -> Message {
        let question = question.to_vec().unwrap();
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream.write_u16(question.len() as u16).await.unwrap();
        stream.write_all(&question).await.unwrap();
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }

    /// What the answer's records say.
    async fn ask(&self, name: &str, kind: RecordType) -> Vec<String> {
        let answer = self.udp(&question(name, kind)).await;
        if answer.metadata.response_code != ResponseCode::NoError {
            return vec![format!("{:?}", answer.metadata.response_code)];
        }
        answer.answers.iter().map(|record| record.data.to_string()).collect()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn put_service(client: &FakeClient, name: &str, spec: &Value) {
    let value = json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec});
    client.put(&serde_json::from_value::<Service>(value).unwrap());
}

fn put_slice(client: &FakeClient, service: &str, addresses: impl IntoIterator<Item = String>) {
    let endpoints: Vec<Value> =
        addresses.into_iter().map(|address| json!({"addresses": [address]})).collect();
    let labels = json!({"kubernetes.io/service-name": service});
    let value = json!({"metadata": {"name": format!("{service}-x"), "namespace": "n", "labels": labels},
        "addressType": "IPv4", "endpoints": endpoints});
    client.put(&serde_json::from_value::<EndpointSlice>(value).unwrap());
}

#[tokio::test]
async fn aliases_lead_on_into_the_zone_and_out_of_it() {
    let (here, there) = (FakeClient::new(), FakeClient::new());
    put_service(&there, "far", &json!({"clusterIP": "10.50.0.7"}));
    let other = Server::start(&there, "other.test", Vec::new()).await;
    put_service(&here, "near", &json!({"clusterIP": "10.43.0.7"}));
    let alias = |to: &str| json!({"type": "ExternalName", "externalName": to});
    put_service(&here, "in", &alias("near.n.svc.cluster.local"));
    put_service(&here, "out", &alias("far.n.svc.other.test"));
    put_service(&here, "round", &alias("round.n.svc.cluster.local"));
    let stub = StubDomain { domain: "other.test".into(), servers: vec![other.udp] };
    let server = Server::start(&here, "cluster.local", vec![stub]).await;
    let inside = ["near.n.svc.cluster.local.", "10.43.0.7"];
    assert_eq!(server.ask("In.N.svc.cluster.local.", RecordType::A).await, inside, "in any case of letters");
    let outside = ["far.n.svc.other.test.", "10.50.0.7"];
    assert_eq!(server.ask("out.n.svc.cluster.local.", RecordType::A).await, outside);
    assert_eq!(server.ask("out.n.svc.cluster.local.", RecordType::CNAME).await, outside[..1]);
    assert_eq!(server.ask("round.n.svc.cluster.local.", RecordType::A).await, ["ServFail"]);
    assert_eq!(server.ask("gone.n.svc.other.test.", RecordType::A).await, ["NXDomain"]);
    assert_eq!(server.ask("example.org.", RecordType::A).await, ["ServFail"], "nobody to ask");
    drop(other);
    assert_eq!(server.ask("out.n.svc.cluster.local.", RecordType::A).await, outside, "answers are kept");
    assert_eq!(server.ask("gone.n.svc.other.test.", RecordType::A).await, ["NXDomain"], "absences too");
}

#[tokio::test]
async fn what_does_not_fit_comes_over_tcp() {
    let client = FakeClient::new();
    put_service(&client, "many", &json!({"clusterIP": "None"}));
    put_slice(&client, "many", (0..200).map(|n| format!("10.42.0.{n}")));
    let server = Server::start(&client, "cluster.local", Vec::new()).await;
    let mut question = question("many.n.svc.cluster.local.", RecordType::A);
    let cut = server.udp(&question).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 200);
    question.edns = Some(Edns::new());
    assert!(server.udp(&question).await.to_vec().unwrap().len() <= 1232);
    assert_eq!(server.tcp(&question).await.answers.len(), 200);
}

#[tokio::test]
async fn answers_follow_endpoints() {
    let client = FakeClient::new();
    put_service(&client, "db", &json!({"clusterIP": "None"}));
    let server = Server::start(&client, "cluster.local", Vec::new()).await;
    assert_eq!(
        server.ask("db.n.svc.cluster.local.", RecordType::A).await,
        ["NXDomain"],
        "no endpoint, no name"
    );
    for address in ["10.42.0.2", "10.42.0.3"] {
        put_slice(&client, "db", [address.to_owned()]);
        let follow = async {
            while server.ask("db.n.svc.cluster.local.", RecordType::A).await != [address] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WITHIN, follow).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let server = Server::start(&FakeClient::new(), "cluster.local", Vec::new()).await;
    let plain = question("cluster.local.", RecordType::SOA);
    let mut other_class = plain.clone();
    other_class.queries[0].set_query_class(DNSClass::CH);
    let mut update = plain.clone();
    update.metadata.op_code = OpCode::Status;
    let mut later = plain.clone();
    later.edns = Some(Edns::new().set_version(1).clone());
    for (question, code) in [
        (plain, ResponseCode::NoError),
        (other_class, ResponseCode::Refused),
        (update, ResponseCode::NotImp),
        (later, ResponseCode::BADVERS),
    ] {
        // By number: 16 is BADVERS in an answer to a question, and BADSIG elsewhere.
        assert_eq!(u16::from(server.udp(&question).await.metadata.response_code), u16::from(code));
    }
}

#[tokio::test]
async fn before_the_cluster_is_known_others_names_are_told() {
    let there = FakeClient::new();
    put_service(&there, "far", &json!({"clusterIP": "10.50.0.7"}));
    let other = Server::start(&there, "other.test", Vec::new()).await;
    let here = FakeClient::new();
    here.fail(Box::new(|_, _| Some(Status::unavailable("it is not there yet"))));
    let stub = StubDomain { domain: "other.test".into(), servers: vec![other.udp] };
    let server = Server::start(&here, "cluster.local", vec![stub]).await;
    let (own, reverse, theirs) = tokio::join!(
        server.ask("web.n.svc.cluster.local.", RecordType::A),
        server.ask("7.0.50.10.in-addr.arpa.", RecordType::PTR),
        server.ask("far.n.svc.other.test.", RecordType::A),
    );
    assert_eq!([own, reverse, theirs], [["ServFail"], ["ServFail"], ["10.50.0.7"]]);
}
