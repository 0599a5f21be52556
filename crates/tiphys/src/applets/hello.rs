//! `tiphys hello`: the HTTP server of `tiphys.local/hello`, which tells who answers.
//!
//! `/` names pod, node and address; `/healthz` answers `ok`; `/crash` ends the process with status 1; `/slow?ms=N` answers
//! late. It listens on 8080 and on 80, where `kubectl expose deployment hello --port=80` leads. It drains on SIGTERM: open requests are answered, so that a rolling update loses none.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

/// Ports when neither an argument nor `PORT` names one. The second needs a privilege that a pod may lack.
const PORT: u16 = 8080;
const SECOND_PORT: u16 = 80;
/// How long the listener stays open after SIGTERM: kube-proxies elsewhere may still send new connections for a moment.
const LINGER: Duration = Duration::from_secs(2);

/// Serves until SIGTERM.
pub(super) fn run(args: &[OsString]) -> Result<ExitCode> {
    let given =
        args.first().and_then(|a| a.to_str()).map(str::to_owned).or_else(|| std::env::var("PORT").ok());
    let port: Option<u16> =
        given.map(|text| text.parse()).transpose().context("the port must be a number")?;
    let second = port.is_none().then_some(SECOND_PORT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(port.unwrap_or(PORT), second))
}

async fn serve(port: u16, second: Option<u16>) -> Result<ExitCode> {
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("cannot listen on port {port}"))?;
    let also = match second {
        Some(port) => TcpListener::bind(("0.0.0.0", port)).await.ok(),
        None => None,
    };
    println!("{} listens on port {port}", host());
    let connections = TaskTracker::new();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        never = accept(&listener, &connections) => never?,
        never = accept_also(also.as_ref(), &connections) => never?,
        _ = terminate.recv() => {}
    }
    println!("SIGTERM: draining");
    let both =
        async { tokio::join!(accept(&listener, &connections), accept_also(also.as_ref(), &connections)) };
    let _ = tokio::time::timeout(LINGER, both).await;
    drop((listener, also));
    connections.close();
    connections.wait().await;
    Ok(ExitCode::SUCCESS)
}

/// The same for a port that may not be there.
async fn accept_also(listener: Option<&TcpListener>, connections: &TaskTracker) -> Result<()> {
    match listener {
        Some(listener) => accept(listener, connections).await,
        None => std::future::pending().await,
    }
}

async fn accept(listener: &TcpListener, connections: &TaskTracker) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(async move {
            // One request a connection, so that a client's next request is balanced anew.
            let http = hyper::server::conn::http1::Builder::new().keep_alive(false).clone();
            // A client that went away is no news here.
            let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
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
