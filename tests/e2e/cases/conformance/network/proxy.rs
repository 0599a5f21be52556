//! Pods, Services and nodes, reached through the API server.

use anyhow::{Context, Result, ensure};

use super::super::super::Run;
use super::super::cli::Proxy;
use super::Table;
use crate::harness::{Namespace, eventually};

/// Cases with containers.
pub const CASES: Table = &[(
    &[
        "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy",
        "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath",
        "[sig-network] Proxy version v1 should proxy through a service and a pod",
    ],
    Run::Shared(proxy),
)];

/// A server on two ports, and the API server under another name.
const SERVED: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: tiphys.local/hello:1
    ports: [{name: dest1, containerPort: 8080}, {name: dest2, containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: portname1, port: 81, targetPort: dest1}
  - {name: portname2, port: 82, targetPort: dest2}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {ports: [{name: tlsportname, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: tlsportname, port: API_PORT}]
endpoints: [{addresses: [NODE_IP], conditions: {ready: true}}]
";

fn proxy(ns: &Namespace<'_>) -> Result<()> {
    let node = ns.get(&["nodes"])?["items"][0].take();
    let node_ip = node["status"]["addresses"][0]["address"].as_str().context("no node IP")?;
    let api_port = ns.cluster.https_port().to_string();
    ns.apply(&SERVED.replace("NODE_IP", node_ip).replace("API_PORT", &api_port))?;
    ns.wait("condition=Ready", &["pod/web"])?;
    let server = Proxy::start(ns, "--port=0")?;
    let of = |what: &str| format!("/api/v1/namespaces/{}/{what}/proxy", ns.name);
    let ask = |method: &str, path: &str| server.ask(method, path, "text/plain", "");
    let ways = [
        "pods/web:8080",
        "pods/web:dest1",
        "pods/http:web:80",
        "services/web:portname1",
        "services/web:82",
        "services/http:web:portname2",
    ];
    for way in ways {
        eventually(way, || {
            let answer = ask("GET", &(of(way) + "/healthz"))?;
            ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{way}: {answer}");
            Ok(())
        })?;
    }
    for way in ["pods/web", "services/web:portname1"] {
        methods(ns, &of(way), &ask)?;
    }
    for way in ["services/https:api:443", "services/https:api:tlsportname"] {
        let answer = ask("GET", &(of(way) + "/healthz"))?;
        ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{way}: {answer}");
    }
    let node =
        format!("/api/v1/nodes/{}/proxy/healthz", node["metadata"]["name"].as_str().context("no name")?);
    let answer = ask("GET", &node)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// Every method reaches the server, with and without a path behind.
fn methods(ns: &Namespace<'_>, at: &str, ask: &impl Fn(&str, &str) -> Result<String>) -> Result<()> {
    for method in ["DELETE", "OPTIONS", "PATCH", "POST", "PUT", "HEAD", "GET"] {
        let bare = ask(method, at)?;
        let code = if matches!(method, "HEAD" | "GET") { "301" } else { "200" };
        ensure!(bare.starts_with(&format!("HTTP/1.1 {code}")), "{method} {at}: {bare}");
        let path = format!("/healthz?by={method}");
        let deep = ask(method, &format!("{at}{path}"))?;
        ensure!(deep.starts_with("HTTP/1.1 200"), "{method} {at}{path}: {deep}");
        eventually("the server saw it", || {
            let seen = ns.kubectl(&["logs", "web"])?;
            ensure!(seen.lines().any(|line| line == format!("{method} {path}")), "{method} {path}: {seen}");
            Ok(())
        })?;
    }
    Ok(())
}
