//! Packets: who reaches whom, by which address, and for how long.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::super::Run;
use super::Table;
use crate::harness::{Namespace, eventually};

/// Cases with containers.
pub const CASES: Table = &[
    (
        &[
            "[sig-network] Services should be able to create a functioning NodePort service",
            "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [NodeConformance]",
            "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp [NodeConformance]",
            "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly] [NodeConformance]",
            "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [NodeConformance]",
        ],
        Run::Shared(reach),
    ),
    (
        &[
            "[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly]",
            "[sig-network] Services should have session affinity work for NodePort service [LinuxOnly]",
            "[sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly]",
            "[sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly]",
            "[sig-network] Services should have session affinity timeout work for service with type clusterIP [LinuxOnly]",
            "[sig-network] Services should have session affinity timeout work for NodePort service [LinuxOnly]",
        ],
        Run::Shared(affinity),
    ),
    (
        &[
            "[sig-network] Services should be able to change the type from ExternalName to ClusterIP",
            "[sig-network] Services should be able to change the type from ClusterIP to ExternalName",
            "[sig-network] Services should be able to change the type from ExternalName to NodePort",
            "[sig-network] Services should be able to change the type from NodePort to ExternalName",
        ],
        Run::Shared(types),
    ),
    (
        &[
            "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly]",
        ],
        Run::Shared(host_ports),
    ),
];

const PATIENCE: Duration = Duration::from_secs(3);

/// What a TCP server answers this node.
fn tcp(address: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).context("no HTTP answer")
}

/// What a UDP server answers this node.
fn udp(address: &str) -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(b"get")?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

fn node_ip(ns: &Namespace<'_>) -> Result<String> {
    let nodes = ns.get(&["nodes"])?;
    Ok(nodes["items"][0]["status"]["addresses"][0]["address"].as_str().context("no node IP")?.to_owned())
}

fn ports(service: &serde_json::Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| port["nodePort"].as_u64()).collect()
}

fn reach(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(2)?;
    ns.apply(BOTH)?;
    let service = ns.get(&["service", "both"])?;
    let cluster_ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    let (node_ip, node_ports) = (node_ip(ns)?, ports(&service));
    ensure!(node_ports.len() == 2, "{service}");
    let pods = ns.get(&["pods", "-l", "app=hello"])?;
    let pods = pods["items"].as_array().context("no pods")?;
    let client = pods[0]["metadata"]["name"].as_str().context("no name")?;
    let from_pod = |scheme: &str, address: &str| {
        ns.kubectl(&["exec", client, "--", "get", &format!("{scheme}://{address}/")])
    };
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let address = format!("{}:8080", pod["status"]["podIP"].as_str().context("no address")?);
        let answers =
            [tcp(&address)?, udp(&address)?, from_pod("http", &address)?, from_pod("udp", &address)?];
        ensure!(answers.iter().all(|answer| answer.contains(name)), "{name} at {address}: {answers:?}");
    }
    let addresses = [format!("{cluster_ip}:80"), "both:80".into()];
    let on_node = |port: u64| format!("{node_ip}:{port}");
    for (scheme, node_port) in [("http", node_ports[0]), ("udp", node_ports[1])] {
        for address in addresses.iter().cloned().chain([on_node(node_port)]) {
            eventually(&format!("{scheme}://{address} from a pod"), || from_pod(scheme, &address))?;
        }
    }
    eventually("the node port answers the node", || tcp(&on_node(node_ports[0])))?;
    eventually("the loopback address is the node's, too", || tcp(&format!("127.0.0.1:{}", node_ports[0])))?;
    eventually("the node port answers datagrams", || udp(&on_node(node_ports[1]))).map(drop)
}

const BOTH: &str = r"
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: NodePort
  selector: {app: hello}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: udp, port: 80, targetPort: 8080, protocol: UDP}
";

#[allow(clippy::disallowed_methods, reason = "nothing tells when the kernel forgets a client")]
fn pass(time: Duration) {
    std::thread::sleep(time);
}

fn affinity(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(3)?;
    let service = ns.get(&["service", "hello"])?;
    let cluster_ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    let addresses = [format!("{cluster_ip}:80"), format!("{}:{}", node_ip(ns)?, ports(&service)[0])];
    let seen = |address: &str, count: u32, pause: Duration| -> Result<usize> {
        let mut seen = BTreeSet::new();
        for _ in 0..count {
            seen.insert(tcp(address)?);
            pass(pause);
        }
        Ok(seen.len())
    };
    let set = |spec: &str| ns.kubectl(&["patch", "service", "hello", "-p", &format!("{{\"spec\":{spec}}}")]);
    let one = |what: &str| {
        addresses.iter().try_for_each(|address| {
            eventually(&format!("{what} {address}"), || {
                let pods = seen(address, 12, Duration::ZERO)?;
                ensure!(pods == 1, "12 requests reached {pods} pods");
                Ok(())
            })
        })
    };
    let many = |what: &str, count: u32, pause: Duration| {
        addresses.iter().try_for_each(|address| {
            eventually(&format!("{what} {address}"), || {
                let pods = seen(address, count, pause)?;
                ensure!(pods > 1, "{count} requests reached one pod");
                Ok(())
            })
        })
    };
    set(r#"{"sessionAffinity":"ClientIP"}"#)?;
    one("one pod answers every time at")?;
    set(r#"{"sessionAffinity":"None","sessionAffinityConfig":null}"#)?;
    many("every pod answers at", 24, Duration::ZERO)?;
    set(r#"{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":1}}}"#)?;
    one("one pod answers again at")?;
    many("a client that was silent comes to another pod at", 4, Duration::from_millis(2100))
}

fn types(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["run", "web", "--image=tiphys.local/hello:1", "--labels=app=hello"])?;
    ns.kubectl(&["create", "service", "externalname", "change", "--external-name=web.example.com"])?;
    ns.wait("condition=Ready", &["pod/web"])?;
    let put = |kind: &str, more: &str| {
        let spec = format!("{{\"spec\":{{\"type\":\"{kind}\",{more}}}}}");
        ns.kubectl(&["patch", "service", "change", "--type=merge", "-p", &spec])
    };
    let spec = || Ok::<_, anyhow::Error>(ns.get(&["service", "change"])?["spec"].clone());
    let from_pod = |url: &str| ns.kubectl(&["exec", "web", "--", "get", url]);
    let external = || -> Result<()> {
        put("ExternalName", r#""externalName":"web.example.com""#)?;
        let now = spec()?;
        ensure!(now["clusterIP"].as_str().unwrap_or_default().is_empty(), "{now}");
        ensure!(ports(&serde_json::json!({"spec": now})).is_empty(), "{now}");
        eventually("the name is another's", || {
            let answer = ns.kubectl(&["exec", "web", "--", "lookup", "change", "CNAME"])?;
            ensure!(answer.contains("web.example.com"), "{answer}");
            Ok(())
        })
    };
    ensure!(spec()?["clusterIP"].as_str().unwrap_or_default().is_empty(), "an external name has an address");
    let selector =
        r#""externalName":null,"selector":{"app":"hello"},"ports":[{"port":80,"targetPort":8080}]"#;
    put("ClusterIP", selector)?;
    let cluster_ip = spec()?["clusterIP"].as_str().context("no cluster IP")?.to_owned();
    for url in [format!("http://{cluster_ip}/"), "http://change/".into()] {
        eventually(&url, || from_pod(&url))?;
    }
    external()?;
    put("NodePort", selector)?;
    let now = serde_json::json!({"spec": spec()?});
    let node_port = *ports(&now).first().context("no node port")?;
    let node_ip = node_ip(ns)?;
    for url in [format!("http://{node_ip}:{node_port}/"), "http://change/".into()] {
        eventually(&url, || from_pod(&url))?;
    }
    external()?;
    eventually("the node port is given back", || {
        ensure!(tcp(&format!("{node_ip}:{node_port}")).is_err(), "it still answers");
        Ok(())
    })
}

fn host_ports(ns: &Namespace<'_>) -> Result<()> {
    const PORT: u16 = 54_323;
    let node_ip = node_ip(ns)?;
    let pods =
        [("one", "127.0.0.1", "TCP"), ("two", node_ip.as_str(), "TCP"), ("three", node_ip.as_str(), "UDP")];
    for (name, host_ip, protocol) in pods {
        ns.apply(&format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"terminationGracePeriodSeconds":0,
            "containers":[{{"name":"c","image":"tiphys.local/hello:1","ports":[
            {{"containerPort":8080,"hostPort":{PORT},"hostIP":"{host_ip}","protocol":"{protocol}"}}]}}]}}}}"#
        ))?;
    }
    ns.wait("condition=Ready", &["pod/one", "pod/two", "pod/three"])?;
    for (name, host_ip, protocol) in pods {
        let address = format!("{host_ip}:{PORT}");
        eventually(&format!("{protocol} {address} is {name}"), || {
            let answer = if protocol == "TCP" { tcp(&address)? } else { udp(&address)? };
            ensure!(answer.contains(&format!("pod {name} ")), "{answer}");
            Ok(())
        })?;
    }
    Ok(())
}
