//! Which kubelet, and which of its paths: pure functions of the Pod, the Node and the query.
//!
//! Paths, parameters and refusals are those of kube-apiserver's pod strategy, so that a real kubelet serves us and our
//! kubelet serves a real API server.

use serde::Deserialize;
use tiphys_api::{Gvk, Status, field};

use crate::http::query::{Query, encode};

/// The fields of a Pod that decide.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// `spec`
    pub spec: PodSpec,
    /// `status`
    pub status: PodStatus,
}

/// Of a Pod's `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Where it runs; empty before it is scheduled.
    pub node_name: String,
    /// App containers.
    pub containers: Vec<Container>,
    /// Init containers.
    pub init_containers: Vec<Container>,
    /// Ephemeral containers.
    pub ephemeral_containers: Vec<Container>,
}

/// Of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its declared ports.
    pub ports: Vec<ContainerPort>,
}

/// Of a container's port.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name, or empty.
    pub name: String,
    /// Its number.
    pub container_port: u16,
}

/// Of a Pod's `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// Its address; empty until it has one.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
}

/// The fields of a Node that decide.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
    daemon_endpoints: DaemonEndpoints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DaemonEndpoints {
    kubelet_endpoint: DaemonEndpoint,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DaemonEndpoint {
    #[serde(rename = "Port")]
    port: u16,
}

impl Node {
    /// Whether it says where its kubelet listens: simulated ones have none.
    pub fn tells_its_port(&self) -> bool {
        self.status.daemon_endpoints.kubelet_endpoint.port != 0
    }
}

/// The kubelet's port where the Node does not say.
const KUBELET_PORT: u16 = 10250;

/// Host and port of a node's kubelet; the pod network's own addresses first, names last.
pub fn kubelet_address(node: &Node) -> Option<(String, u16)> {
    let order = ["InternalIP", "ExternalIP", "InternalDNS", "Hostname", "ExternalDNS"];
    let mut kinds = order.iter().filter_map(|kind| node.status.addresses.iter().find(|a| a.kind == *kind));
    let host = kinds.next()?.address.clone();
    let port = match node.status.daemon_endpoints.kubelet_endpoint.port {
        0 => KUBELET_PORT,
        port => port,
    };
    Some((host, port))
}

/// The container meant by `?container=`, or the only one; 400 with the choices otherwise.
pub fn container<'a>(asked: &'a str, pod_name: &str, pod: &'a Pod) -> Result<&'a str, Status> {
    let spec = &pod.spec;
    if !asked.is_empty() {
        let all = spec.containers.iter().chain(&spec.init_containers).chain(&spec.ephemeral_containers);
        let exists = all.into_iter().any(|container| container.name == asked);
        let unknown = || Status::bad_request(format!("container {asked} is not valid for pod {pod_name}"));
        return if exists { Ok(asked) } else { Err(unknown()) };
    }
    match spec.containers.as_slice() {
        [only] => Ok(&only.name),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        many => {
            let mut text = format!(
                "a container name must be specified for pod {pod_name}, choose one of: {}",
                names(many)
            );
            for (kind, containers) in
                [("init", &spec.init_containers), ("ephemeral", &spec.ephemeral_containers)]
            {
                if !containers.is_empty() {
                    text.push_str(&format!(" or one of the {kind} containers: {}", names(containers)));
                }
            }
            Err(Status::bad_request(text))
        }
    }
}

fn names(containers: &[Container]) -> String {
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    format!("[{}]", names.join(" "))
}

/// `/containerLogs/ns/pod/container?...`
pub fn log_path(namespace: &str, name: &str, pod: &Pod, query: &Query) -> Result<String, Status> {
    let mut parameters = log_numbers(name, query)?;
    let container = container(query.text("container"), name, pod)?;
    for switch in ["follow", "previous", "timestamps"] {
        if query.switch(switch) {
            parameters.push(format!("{switch}=true"));
        }
    }
    for text in ["sinceTime", "stream"] {
        if let Some(value) = query.get(text).filter(|value| !value.is_empty()) {
            parameters.push(format!("{text}={}", encode(value)));
        }
    }
    let path = format!("/containerLogs/{}/{}/{}", encode(namespace), encode(name), encode(container));
    Ok(with_query(path, &parameters))
}

/// The numbers of a log's query as parameters; 422 with all that are out of range.
fn log_numbers(name: &str, query: &Query) -> Result<Vec<String>, Status> {
    let (mut parameters, mut errors) = (Vec::new(), field::Errors::new());
    for (option, least) in [("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)] {
        let Some(text) = query.get(option).filter(|text| !text.is_empty()) else { continue };
        let number: i64 = text.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        if number < least {
            let why =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            errors.push(field::Error::invalid(&field::Path::new(option), number, why));
        }
        parameters.push(format!("{option}={number}"));
    }
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(field::Error::forbidden(&field::Path::new(""), why));
    }
    match errors.is_empty() {
        true => Ok(parameters),
        false => Err(Status::invalid(&Gvk::new("", "", "PodLogOptions"), name, &errors)),
    }
}

/// `/exec/ns/pod/container?...` or `/attach/...`
pub fn exec_path(
    verb: &str,
    namespace: &str,
    name: &str,
    pod: &Pod,
    query: &Query,
) -> Result<String, Status> {
    let container = container(query.text("container"), name, pod)?;
    let mut parameters = Vec::new();
    for (ours, kubelets) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.switch(ours) {
            parameters.push(format!("{kubelets}=1"));
        }
    }
    if verb == "exec" {
        let commands: Vec<String> =
            query.all("command").map(|part| format!("command={}", encode(part))).collect();
        if commands.is_empty() {
            return Err(Status::bad_request("you must specify at least 1 command for the container"));
        }
        parameters.extend(commands);
    }
    if !["stdin", "stdout", "stderr"].iter().any(|stream| query.switch(stream)) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let path = format!("/{verb}/{}/{}/{}", encode(namespace), encode(name), encode(container));
    Ok(with_query(path, &parameters))
}

/// `/portForward/ns/pod?...`; WebSocket clients name the ports in the query.
pub fn port_forward_path(namespace: &str, name: &str, query: &Query) -> String {
    let ports: Vec<&str> = query.all("ports").filter(|port| !port.is_empty()).collect();
    let parameters: Vec<String> = match ports.as_slice() {
        [] => Vec::new(),
        ports => vec![format!("port={}", encode(&ports.join(",")))],
    };
    with_query(format!("/portForward/{}/{}", encode(namespace), encode(name)), &parameters)
}

fn with_query(path: String, parameters: &[String]) -> String {
    if parameters.is_empty() { path } else { format!("{path}?{}", parameters.join("&")) }
}

/// Encodes a decoded path again, keeping its slashes.
pub fn path_escape(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Pod {
        let make = |names: &[&str]| {
            names.iter().map(|name| Container { name: (*name).into(), ports: Vec::new() }).collect::<Vec<_>>()
        };
        let spec = PodSpec {
            node_name: "n1".into(),
            containers: make(containers),
            init_containers: make(init),
            ephemeral_containers: Vec::new(),
        };
        Pod { spec, ..Pod::default() }
    }

    #[test]
    fn the_container_is_the_only_one_or_must_be_named() {
        assert_eq!(container("", "p", &pod(&["a"], &["i"])).unwrap(), "a");
        assert_eq!(container("i", "p", &pod(&["a"], &["i"])).unwrap(), "i");
        let text = |asked, pod: Pod| container(asked, "x", &pod).unwrap_err().message;
        assert_eq!(
            text("", pod(&["a", "b"], &[])),
            "a container name must be specified for pod x, choose one of: [a b]"
        );
        assert_eq!(
            text("", pod(&["a", "b"], &["i"])),
            "a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(text("z", pod(&["a"], &[])), "container z is not valid for pod x");
    }

    #[test]
    fn paths_are_the_kubelets() {
        let one = pod(&["a"], &[]);
        let path =
            |query: &str| log_path("ns", "p", &one, &Query::parse(query)).map_err(|status| status.code);
        let query = "follow=true&tailLines=5&sinceTime=2026-01-01T00:00:00Z&timestamps=false";
        let expected = "/containerLogs/ns/p/a?tailLines=5&follow=true&sinceTime=2026-01-01T00%3A00%3A00Z";
        assert_eq!(path(query).as_deref(), Ok(expected));
        assert_eq!(
            (path("tailLines=-1"), path("tailLines=x"), path("limitBytes=0")),
            (Err(422), Err(400), Err(422))
        );
        let query = Query::parse("command=sh&command=-c&command=a b&stdin=true&stdout=true&tty=true");
        let path = exec_path("exec", "ns", "p", &one, &query).unwrap();
        assert_eq!(path, "/exec/ns/p/a?input=1&output=1&tty=1&command=sh&command=-c&command=a%20b");
        let ports = Query::parse("ports=80&ports=81");
        assert_eq!(port_forward_path("ns", "p", &ports), "/portForward/ns/p?port=80%2C81");
    }

    #[test]
    fn a_kubelet_is_where_its_node_says() {
        let json = r#"{"status":{"addresses":[{"type":"Hostname","address":"h"},{"type":"InternalIP","address":"10.0.0.1"}],
            "daemonEndpoints":{"kubeletEndpoint":{"Port":10350}}}}"#;
        let node: Node = serde_json::from_str(json).unwrap();
        assert_eq!(kubelet_address(&node), Some(("10.0.0.1".to_owned(), 10350)));
        assert_eq!(kubelet_address(&Node::default()), None);
    }
}
