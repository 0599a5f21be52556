//! `tiphys hello [PORT] [--grpc-port PORT]`: the server of `tiphys.local/hello`, which tells who answers.
//!
//! `/` names pod, node and address; `/healthz` answers `ok`; `/crash` ends the process with status 1; `/slow?ms=N` answers
//! late. Datagrams to the same port are answered as `/` is. It listens on 8080 and on 80, where `kubectl expose deployment
//! hello --port=80` leads; with `--grpc-port` also for gRPC probes ([`health`]). It drains on SIGTERM: open requests are
//! answered, so that a rolling update loses none.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

use super::health;

/// Ports when neither an argument nor `PORT` names one. The second needs a privilege that a pod may lack.
const PORT: u16 = 8080;
const SECOND_PORT: u16 = 80;
/// How long the listener stays open after SIGTERM: kube-proxies elsewhere may still send new connections for a moment.
const LINGER: Duration = Duration::from_secs(2);

/// What was typed.
#[derive(Debug, Default, PartialEq)]
struct Ports {
    http: Option<u16>,
    grpc: Option<u16>,
}

impl Ports {
    fn read(args: &[OsString], variable: Option<&str>) -> Result<Self> {
        let number = |text: &str| text.parse::<u16>().context("the port must be a number");
        let mut ports = Self::default();
        let mut words = args.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            match word.strip_prefix("--grpc-port") {
                Some("") => ports.grpc = Some(number(&words.next().unwrap_or_default())?),
                Some(rest) => ports.grpc = Some(number(rest.trim_start_matches('='))?),
                None => ports.http = Some(number(&word)?),
            }
        }
        if ports.http.is_none() {
            ports.http = variable.map(number).transpose()?;
        }
        Ok(ports)
    }
}

/// Serves until SIGTERM.
pub(super) fn run(args: &[OsString]) -> Result<ExitCode> {
    let ports = Ports::read(args, std::env::var("PORT").ok().as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&ports))
}

async fn serve(ports: &Ports) -> Result<ExitCode> {
    let port = ports.http.unwrap_or(PORT);
    let mut doors = vec![Door::open(port, Speaks::Http).await?];
    if ports.http.is_none() {
        doors.extend(Door::open(SECOND_PORT, Speaks::Http).await.ok());
    }
    if let Some(port) = ports.grpc {
        doors.push(Door::open(port, Speaks::Grpc).await?);
    }
    let datagrams = UdpSocket::bind(("0.0.0.0", port)).await?;
    println!("{} listens on port {port}", host());
    let connections = TaskTracker::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let accept = || try_join_all(doors.iter().map(|door| door.accept(&connections)));
    tokio::select! {
        never = accept() => drop(never?),
        never = echo(&datagrams) => never?,
        _ = terminate.recv() => {}
    }
    println!("SIGTERM: draining");
    let _ = tokio::time::timeout(LINGER, accept()).await;
    drop(doors);
    connections.close();
    connections.wait().await;
    Ok(ExitCode::SUCCESS)
}

/// What a port's clients speak.
#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Grpc,
}

/// An open port.
struct Door {
    listener: TcpListener,
    speaks: Speaks,
}

impl Door {
    async fn open(port: u16, speaks: Speaks) -> Result<Self> {
        let listener = TcpListener::bind(("0.0.0.0", port)).await;
        let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
        Ok(Self { listener, speaks })
    }

    async fn accept(&self, connections: &TaskTracker) -> Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match self.speaks {
                Speaks::Http => drop(connections.spawn(http(stream))),
                // Not waited for when draining: such a connection stays open when nothing is asked.
                Speaks::Grpc => drop(tokio::spawn(grpc(stream))),
            }
        }
    }
}

async fn echo(datagrams: &UdpSocket) -> Result<()> {
    loop {
        let (_, from) = datagrams.recv_from(&mut [0; 512]).await?;
        // That one client cannot be reached ends nothing.
        let _ = datagrams.send_to(greeting().as_bytes(), from).await;
    }
}

async fn http(stream: TcpStream) {
    // One request a connection, so that a client's next request is balanced anew.
    let http = http1::Builder::new().keep_alive(false).clone();
    // A client that went away is no news here.
    let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn grpc(stream: TcpStream) {
    let http = http2::Builder::new(TokioExecutor::new());
    let _ = http.serve_connection(TokioIo::new(stream), service_fn(health::answer)).await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    println!("{} {}", request.method(), request.uri());
    let (status, body) = match request.uri().path() {
        "/" => (StatusCode::OK, greeting()),
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/slow" => {
            let ms = request.uri().query().and_then(|q| q.strip_prefix("ms=")?.parse().ok()).unwrap_or(100);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            (StatusCode::OK, greeting())
        }
        "/crash" => std::process::exit(1),
        path => (StatusCode::NOT_FOUND, format!("nothing at {path}\n")),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    Ok(response)
}

fn greeting() -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    format!(
        "Hello from pod {} on node {} at {}\n",
        host(),
        variable("NODE_NAME"),
        std::env::var("POD_IP").unwrap_or_else(|_| address())
    )
}

/// The pod's name: the kubelet makes it the host name.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn address() -> String {
    tiphys_network::address::node_address().map_or_else(|_| "unknown".into(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_every_form() {
        let read = |words: &[&str], variable: Option<&str>| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            Ports::read(&words, variable).ok()
        };
        let ports = |http, grpc| Some(Ports { http, grpc });
        assert_eq!(read(&[], None), ports(None, None));
        assert_eq!(read(&["81"], Some("82")), ports(Some(81), None));
        assert_eq!(read(&["--grpc-port", "9"], Some("82")), ports(Some(82), Some(9)));
        assert_eq!(read(&["--grpc-port=9"], None), ports(None, Some(9)));
        assert_eq!(read(&["--grpc-port"], None), None);
        assert_eq!(read(&["--other"], None), None);
    }
}
