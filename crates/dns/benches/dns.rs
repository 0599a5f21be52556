//! `cargo bench -p tiphys-dns`: how many questions one core answers, how fast, and how soon an answer follows an endpoint.
//!
//! The server has one thread of its own; what it takes of the processor is read from the kernel's account of that thread.
//! The client keeps some questions in flight on one socket and takes the other core.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use tiphys_client::fake::FakeClient;
use tokio_util::sync::CancellationToken;

const SERVICES: usize = 5_000;
const QUESTIONS: usize = 500_000;
const CHANGES: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = FakeClient::new();
    for n in 0..SERVICES {
        let spec = json!({"clusterIP": format!("10.{}.{}.{}", 100 + n / 65_536, n / 256 % 256, n % 256),
            "ports": [{"name": "http", "port": 80}]});
        client.put(&service(&format!("web-{n}"), &spec)?);
    }
    client.put(&service("db", &json!({"clusterIP": "None"}))?);
    let (address, thread) = start(&client)?;
    println!("{SERVICES} Services, one thread, loopback");
    for in_flight in [1, 32, 128] {
        load(address, &thread, in_flight)?;
    }
    follow(&client, address)
}

fn service(name: &str, spec: &serde_json::Value) -> serde_json::Result<Service> {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}))
}

/// Starts the server in a thread of its own; answers its address and where the kernel keeps the thread's account.
fn start(client: &FakeClient) -> Result<(SocketAddr, String), Box<dyn std::error::Error>> {
    let (tell, told) = std::sync::mpsc::channel();
    let client = client.clone();
    std::thread::spawn(move || serve(client, &tell));
    Ok(told.recv()?)
}

fn serve(client: FakeClient, tell: &Sender<(SocketAddr, String)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let listen = udp.local_addr().expect("an address");
        let thread = std::fs::read_link("/proc/thread-self").expect("the thread's number");
        tell.send((listen, format!("/proc/{}/schedstat", thread.display()))).expect("someone who asked");
        let config = tiphys_dns::Config {
            listen,
            domain: "cluster.local".into(),
            resolv_conf: "/dev/null".into(),
            stub_domains: Vec::new(),
        };
        let served = tiphys_dns::serve((udp, tcp), &config, Arc::new(client), CancellationToken::new());
        served.await.expect("a server");
    });
}

/// Nanoseconds that the thread has run.
fn ran(thread: &str) -> u64 {
    let account = std::fs::read_to_string(thread).unwrap_or_default();
    account.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    message.to_vec().expect("a question")
}

/// A client that keeps so many questions in flight.
struct Client {
    socket: UdpSocket,
    questions: Vec<Vec<u8>>,
    sent: Vec<Instant>,
}

impl Client {
    fn new(server: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let name = |id: u16| format!("web-{}.n.svc.cluster.local.", usize::from(id) % SERVICES);
        let questions: Vec<_> = (0..u16::MAX).map(|id| question(id, &name(id))).collect();
        let sent = vec![Instant::now(); questions.len()];
        Ok(Self { socket, questions, sent })
    }

    fn ask(&mut self, n: usize) -> std::io::Result<()> {
        let id = n % self.questions.len();
        self.sent[id] = Instant::now();
        self.socket.send(&self.questions[id]).map(drop)
    }

    /// Takes one answer; how long it took.
    fn answer(&self) -> std::io::Result<Duration> {
        let mut buffer = [0; 1500];
        let read = self.socket.recv(&mut buffer)?;
        assert!(read > 12 && buffer[7] == 1, "an answer has one record");
        Ok(self.sent[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))].elapsed())
    }
}

fn load(server: SocketAddr, thread: &str, in_flight: usize) -> std::io::Result<()> {
    let mut client = Client::new(server)?;
    let (began, cpu) = (Instant::now(), ran(thread));
    for n in 0..in_flight {
        client.ask(n)?;
    }
    let mut times = Vec::with_capacity(QUESTIONS);
    for n in in_flight..QUESTIONS {
        times.push(client.answer()?);
        client.ask(n)?;
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), ran(thread) - cpu);
    times.sort_unstable();
    let micros = cpu as f64 / 1e3 / times.len() as f64;
    println!(
        "{in_flight:4} in flight: {:.0} questions/s, p50 {:?}, p99 {:?}; {micros:.1} us of the thread each, {:.0}/s of one core",
        times.len() as f64 / took,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        1e6 / micros,
    );
    Ok(())
}

/// From an endpoint's change to the first answer that knows it; asking is part of it.
fn follow(cluster: &FakeClient, server: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    let question = question(7, "db.n.svc.cluster.local.");
    let mut times = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        let address = [10, 42, 1, n as u8];
        let labels = json!({"kubernetes.io/service-name": "db"});
        let slice = json!({"metadata": {"name": "db-x", "namespace": "n", "labels": labels}, "addressType": "IPv4",
            "endpoints": [{"addresses": [std::net::Ipv4Addr::from(address).to_string()]}]});
        let began = Instant::now();
        cluster.put(&serde_json::from_value::<EndpointSlice>(slice)?);
        let mut buffer = [0; 1500];
        loop {
            socket.send(&question)?;
            let read = socket.recv(&mut buffer)?;
            if buffer[..read].ends_with(&address) {
                break times.push(began.elapsed());
            }
        }
    }
    times.sort_unstable();
    println!("answers follow an endpoint: p50 {:?}, longest {:?}", times[CHANGES / 2], times[CHANGES - 1]);
    Ok(())
}
