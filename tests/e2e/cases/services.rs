//! Services and DNS: cluster addresses, node ports, names, spread, and updates without a failed request.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    ("service-answers-on-all-its-addresses", Run::Shared(addresses)),
    ("rolling-update-loses-no-request", Run::Shared(lossless)),
    ("dns-names-services-and-pods", Run::Shared(dns)),
    ("load-balancer-service-has-the-nodes-address-and-tells-its-health", Run::Shared(balancer)),
    ("service-without-endpoints-refuses-and-its-udp-clients-move-on", Run::Shared(moving)),
];

fn get(address: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

fn addresses(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(3)?;
    let service = ns.get(&["service", "hello"])?;
    let cluster_ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
    let nodes = ns.get(&["nodes"])?;
    let node_ip =
        nodes["items"][0]["status"]["addresses"][0]["address"].as_str().context("no node IP")?.to_owned();
    let by_cluster_ip = format!("{cluster_ip}:80");
    eventually("the cluster IP answers from the node", || get(&by_cluster_ip))?;
    eventually("the node port answers", || get(&format!("{node_ip}:{node_port}")))?;
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(get(&by_cluster_ip)?);
    }
    ensure!(seen.len() == 3, "60 requests reached {} of 3 pods", seen.len());
    ns.kubectl(&["run", "client", "--image=tiphys.local/hello:1"])?;
    ns.wait("condition=Ready", &["pod/client"])?;
    let from_pod = |url: &str| ns.kubectl(&["exec", "client", "--", "get", url]);
    for url in
        [format!("http://{by_cluster_ip}/"), "http://hello/".into(), format!("http://{node_ip}:{node_port}/")]
    {
        let answer = eventually(&url, || from_pod(&url))?;
        ensure!(answer.starts_with("Hello from pod hello-"), "{answer}");
    }
    // A pod of the Service reaches itself through it, too (hairpin).
    let own = ns.kubectl(&["get", "pods", "-l", "app=hello", "-o", "name"])?;
    let own = own.lines().next().context("no pod")?;
    for _ in 0..8 {
        ns.kubectl(&["exec", own, "--", "get", "http://hello/"])?;
    }
    Ok(())
}

fn lossless(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(3)?;
    let service = ns.get(&["service", "hello"])?;
    let address = format!("{}:80", service["spec"]["clusterIP"].as_str().context("no cluster IP")?);
    eventually("the Service answers", || get(&address))?;
    let done = AtomicBool::new(false);
    let requests = std::thread::scope(|scope| -> Result<u64> {
        let client = scope.spawn(|| -> Result<u64> {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                get(&address).with_context(|| format!("request {count} failed"))?;
                count += 1;
            }
            Ok(count)
        });
        let updated = ns
            .kubectl(&["set", "image", "deployment/hello", "hello=tiphys.local/hello:2"])
            .and_then(|_| ns.rolled_out("deployment/hello"));
        done.store(true, Ordering::Relaxed);
        let requests = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        updated.map(|_| requests)
    })?;
    ensure!(requests > 20, "only {requests} requests in the whole update");
    Ok(())
}

fn dns(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(2)?;
    ns.apply(HEADLESS)?;
    ns.kubectl(&["run", "client", "--image=tiphys.local/hello:1"])?;
    ns.wait("condition=Ready", &["pod/client"])?;
    let lookup = |name: &str, kind: &str| -> Result<Vec<String>> {
        let answer = ns.kubectl(&["exec", "client", "--", "lookup", name, kind])?;
        Ok(answer.lines().map(str::to_owned).collect())
    };
    let expect = |name: &str, kind: &str, count: usize| {
        eventually(name, || {
            let answers = lookup(name, kind)?;
            ensure!(answers.len() == count, "{name} {kind}: {answers:?}");
            Ok(answers)
        })
    };
    let service = ns.get(&["service", "hello"])?;
    let cluster_ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    ensure!(expect("hello", "A", 1)? == [cluster_ip]);
    ensure!(expect(&format!("hello.{}.svc.cluster.local.", ns.name), "A", 1)? == [cluster_ip]);
    ensure!(expect("kubernetes.default", "A", 1)?.len() == 1);
    expect("headless", "A", 2)?;
    let srv = expect("_http._tcp.headless", "SRV", 2)?;
    ensure!(srv.iter().all(|r| r.contains(" 8080 ")), "{srv:?}");
    let reverse: Vec<&str> = cluster_ip.rsplit('.').collect();
    let ptr = expect(&format!("{}.in-addr.arpa.", reverse.join(".")), "PTR", 1)?;
    ensure!(ptr == [format!("hello.{}.svc.cluster.local.", ns.name)], "{ptr:?}");
    match lookup("no-such-service", "A") {
        Err(_) => Ok(()),
        Ok(answers) => bail!("a name that does not exist has {answers:?}"),
    }
}

const HEADLESS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  selector: {app: hello}
  ports: [{name: http, port: 8080}]
";

fn node_ip(ns: &Namespace<'_>) -> Result<String> {
    let nodes = ns.get(&["nodes"])?;
    Ok(nodes["items"][0]["status"]["addresses"][0]["address"].as_str().context("no node IP")?.to_owned())
}

fn balancer(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(1)?;
    ns.apply(BALANCED)?;
    let node_ip = node_ip(ns)?;
    let ingress = r#"jsonpath={.status.loadBalancer.ingress[*].ip} {.status.loadBalancer.ingress[*].ipMode}"#;
    eventually("the node's address is given", || {
        let given = ns.kubectl(&["get", "service", "balanced", "-o", ingress])?;
        ensure!(given == format!("{node_ip} VIP"), "{given}");
        Ok(())
    })?;
    let address = format!("{node_ip}:47011");
    eventually("the balancer's address answers", || get(&address))?;
    let twin = BALANCED.replace("name: balanced", "name: twin");
    ns.apply(&twin)?;
    eventually("a port is given once", || {
        let events = ns.kubectl(&["get", "events", "--field-selector=involvedObject.name=twin"])?;
        ensure!(events.contains("SyncLoadBalancerFailed") && events.contains("/balanced"), "{events}");
        Ok(())
    })?;
    let service = ns.get(&["service", "balanced"])?;
    let port = service["spec"]["healthCheckNodePort"].as_u64().context("no port for health")?;
    let healthy = format!("{node_ip}:{port}");
    let body: serde_json::Value =
        serde_json::from_str(&eventually("the node is healthy", || get(&healthy))?)?;
    let expected = serde_json::json!({"service": {"namespace": ns.name, "name": "balanced"}, "localEndpoints": 1,
        "serviceProxyHealthy": true});
    ensure!(body == expected, "{body}");
    ns.kubectl(&[
        "patch",
        "service",
        "balanced",
        "-p",
        r#"{"spec":{"loadBalancerSourceRanges":["203.0.113.0/24"]}}"#,
    ])?;
    eventually("others than the allowed are kept out", || {
        ensure!(get(&address).is_err(), "it still answers");
        Ok(())
    })?;
    ns.kubectl(&["scale", "deployment/hello", "--replicas=0"])?;
    eventually("without a pod the node is not healthy", || {
        let error = get(&healthy).err().context("it is")?;
        ensure!(error.to_string().starts_with("HTTP/1.1 503"), "{error}");
        Ok(())
    })
}

const BALANCED: &str = r"
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: hello}
  ports: [{port: 47011, targetPort: 8080}]
";

fn moving(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(0)?;
    ns.apply(DATAGRAMS)?;
    let address = |name: &str| -> Result<SocketAddr> {
        let service = ns.get(&["service", name])?;
        Ok(format!("{}:80", service["spec"]["clusterIP"].as_str().context("no cluster IP")?).parse()?)
    };
    let (stream, datagram) = (address("hello")?, address("datagrams")?);
    let refused = |outcome: std::io::Result<()>| {
        let refused = outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        ensure!(refused, "it is not refused");
        Ok(())
    };
    let connect = || TcpStream::connect_timeout(&stream, Duration::from_secs(3)).map(drop);
    eventually("nothing behind is refused", || refused(connect()))?;
    // One socket: all that it sends is one flow to the kernel.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect(datagram)?;
    let ask = || -> std::io::Result<String> {
        socket.send(b"get")?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
    };
    eventually("datagrams are refused, too", || refused(ask().map(drop)))?;
    let scale = |replicas: &str| {
        ns.kubectl(&["scale", "deployment/hello", &format!("--replicas={replicas}")])?;
        ns.rolled_out("deployment/hello")
    };
    scale("1")?;
    let first = eventually("the pod answers", || Ok(ask()?))?;
    ns.kubectl(&["delete", "pod", "-l", "app=hello", "--force", "--grace-period=0"])?;
    eventually("another pod answers the same socket", || {
        let answer = ask()?;
        ensure!(answer != first, "it is still {answer}");
        Ok(())
    })
}

const DATAGRAMS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: datagrams}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080, protocol: UDP}]
";
