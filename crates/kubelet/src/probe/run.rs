//! Runs one probe: over HTTP, TCP, gRPC, or as a command in the container. Outcomes are worded as the kubelet's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tiphys_runtime::{Error, Runtime};
use tokio::net::TcpStream;

use crate::http_get;

/// How long a connection may take is part of the probe's own time limit.
pub(crate) struct Target<'a> {
    pub(crate) runtime: &'a dyn Runtime,
    /// Identifier of the container.
    pub(crate) id: &'a str,
    pub(crate) container: &'a Container,
    /// Address of the pod.
    pub(crate) ip: IpAddr,
}

/// The most of what a command says that is told, in bytes.
const OUTPUT_MAX: usize = 10 * 1024;

/// Why a probe did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The container did not answer as it should.
    Failed(String),
    /// It could not even be asked: this counts neither for nor against it.
    Errored(String),
}

/// Runs a probe.
pub(crate) async fn run(target: &Target<'_>, probe: &Probe) -> Result<(), Fault> {
    let limit = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1).max(1)).unwrap_or(1));
    if let Some(exec) = &probe.exec {
        return command(target, exec, limit).await;
    }
    if let Some(get) = &probe.http_get {
        let request = request(target, get).map_err(Fault::Errored)?;
        return http(&request, limit).await.map_err(Fault::Failed);
    }
    if let Some(tcp) = &probe.tcp_socket {
        let address = socket(target, tcp).map_err(Fault::Errored)?;
        let limited = tokio::time::timeout(limit, connect(address)).await;
        let late = |_| Err(format!("dial tcp {address}: i/o timeout"));
        return limited.unwrap_or_else(late).map_err(Fault::Failed);
    }
    if let Some(action) = &probe.grpc {
        let address = SocketAddr::new(target.ip, u16::try_from(action.port).unwrap_or(0));
        let limited = tokio::time::timeout(limit, grpc(address, action)).await;
        let late = |_| Err(format!("timeout: health rpc did not complete within {limit:?}"));
        return limited.unwrap_or_else(late).map_err(Fault::Failed);
    }
    Err(Fault::Errored("missing probe handler".into()))
}

async fn connect(address: SocketAddr) -> Result<(), String> {
    let connected = TcpStream::connect(address).await;
    connected.map(drop).map_err(|error| format!("dial tcp {address}: {}", http_get::plain(&error)))
}

fn socket(target: &Target<'_>, tcp: &TCPSocketAction) -> Result<SocketAddr, String> {
    let port = port(target.container, &tcp.port)?;
    Ok(SocketAddr::new(host(target, tcp.host.as_deref())?, port))
}

fn host(target: &Target<'_>, host: Option<&str>) -> Result<IpAddr, String> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(target.ip),
        Some("localhost") => Ok(IpAddr::from([127, 0, 0, 1])),
        Some(text) => text.parse().map_err(|_| format!("host {text:?} is not an address")),
    }
}

/// A port by number, or by its name in the container.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("invalid port: {port:?}"))
}

async fn command(target: &Target<'_>, exec: &ExecAction, limit: Duration) -> Result<(), Fault> {
    let command = exec.command.as_deref().unwrap_or_default();
    match target.runtime.exec_sync(target.id, command, limit).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => {
            let mut said = output.stdout;
            said.extend(output.stderr);
            said.truncate(OUTPUT_MAX);
            Err(Fault::Failed(String::from_utf8_lossy(&said).into_owned()))
        }
        Err(Error::Timeout(_)) => {
            let command = command.join(" ");
            Err(Fault::Failed(format!("command timed out: {command:?} timed out after {}s", limit.as_secs())))
        }
        Err(error) => Err(Fault::Errored(error.to_string())),
    }
}

async fn http(request: &http_get::Request, limit: Duration) -> Result<(), String> {
    match http_get::get(request, limit).await? {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn request(target: &Target<'_>, get: &HTTPGetAction) -> Result<http_get::Request, String> {
    let host = host(target, get.host.as_deref())?;
    let port = port(target.container, &get.port)?;
    let headers = get.http_headers.as_deref().unwrap_or_default();
    Ok(http_get::Request {
        tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        address: SocketAddr::new(host, port),
        path: get.path.clone().unwrap_or_else(|| "/".into()),
        headers: headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
    })
}

/// The handler of a lifecycle hook over HTTP uses the same request.
pub(crate) async fn hook(target: &Target<'_>, get: &HTTPGetAction, limit: Duration) -> Result<(), String> {
    http(&request(target, get)?, limit).await
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `grpc.health.v1.Health/Check`.
async fn grpc(address: SocketAddr, action: &GRPCAction) -> Result<(), String> {
    const PATH: &str = "/grpc.health.v1.Health/Check";
    const SERVING: i32 = 1;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let channel = endpoint.map_err(|e| e.to_string())?.connect().await;
    let channel = channel.map_err(|error| {
        let why = root(&error);
        format!("error: failed to connect service at {:?}: {why}", address.to_string())
    })?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let request = HealthRequest { service: action.service.clone().unwrap_or_default() };
    let codec = tonic_prost::ProstCodec::<HealthRequest, HealthResponse>::default();
    let path = http::uri::PathAndQuery::from_static(PATH);
    match client.unary(tonic::Request::new(request), path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => Ok(()),
        Ok(answer) => {
            Err(format!("service unhealthy (responded with {:?})", health(answer.get_ref().status)))
        }
        Err(status) => Err(rpc_error(status.code(), status.message())),
    }
}

/// What an error comes from in the end: the outer ones only say that there was one.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.downcast_ref().map_or_else(|| root.to_string(), http_get::plain)
}

fn rpc_error(code: tonic::Code, message: &str) -> String {
    match code {
        tonic::Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        ),
        code => format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {message}"),
    }
}

fn health(status: i32) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "SERVING",
    }
}
