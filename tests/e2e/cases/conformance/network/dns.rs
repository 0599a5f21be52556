//! Names, as pods resolve them.

use anyhow::{Context, Result, ensure};

use super::super::super::Run;
use super::Table;
use crate::harness::{Namespace, eventually};

/// Cases with containers.
pub const CASES: Table = &[
    (
        &[
            "[sig-network] DNS should provide DNS for the cluster",
            "[sig-network] DNS should provide DNS for services",
            "[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly]",
            "[sig-network] DNS should provide DNS for pods for Hostname [LinuxOnly]",
            "[sig-network] DNS should provide DNS for pods for Subdomain",
            "[sig-network] DNS should provide /etc/hosts entries for the cluster [LinuxOnly]",
            "[sig-network] DNS should provide DNS for ExternalName services",
        ],
        Run::Shared(names),
    ),
    (&["[sig-network] DNS should support configurable pod DNS nameservers"], Run::Shared(nameservers)),
];

const SERVED: &str = r"
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: querier}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {selector: {app: querier}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: querier, labels: {app: querier}}
spec:
  hostname: querier-host
  subdomain: headless
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: 'tiphys.local/hello:1'}]
";

/// Waits until the pod is answered just this, in any order.
fn expect(ns: &Namespace<'_>, name: &str, kind: &str, expected: &[&str]) -> Result<()> {
    eventually(&format!("{name} {kind}"), || {
        let told = ns.kubectl(&["exec", "querier", "--", "lookup", name, kind])?;
        let mut told: Vec<&str> = told.lines().collect();
        told.sort_unstable();
        ensure!(told == expected, "{name} {kind}: {told:?} instead of {expected:?}");
        Ok(())
    })
}

fn names(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(SERVED)?;
    ns.wait("condition=Ready", &["pod/querier"])?;
    let address = |what: &str, path: &str| -> Result<String> {
        ns.kubectl(&["get", what, "-o", &format!("jsonpath={{{path}}}")])
    };
    let pod_ip = address("pod/querier", ".status.podIP")?;
    let cluster_ip = address("service/plain", ".spec.clusterIP")?;
    let kubernetes = ns.cluster.kubectl(&[
        "get",
        "service",
        "kubernetes",
        "-n",
        "default",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])?;
    for name in ["kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local."] {
        expect(ns, name, "A", &[&kubernetes])?;
    }
    let full = |service: &str| format!("{service}.{}.svc.cluster.local.", ns.name);
    let host = format!("querier-host.{}", full("headless"));
    for (service, ip, port, target) in
        [("headless", &pod_ip, 8080, &host), ("plain", &cluster_ip, 80, &full("plain"))]
    {
        // Short ones get their end from the search domains of the pod.
        let partial = [String::new(), format!(".{}", ns.name), format!(".{}.svc", ns.name)];
        for name in partial.iter().map(|end| format!("{service}{end}")).chain([full(service)]) {
            expect(ns, &name, "A", &[ip])?;
            expect(ns, &format!("_http._tcp.{name}"), "SRV", &[&format!("0 100 {port} {target}")])?;
        }
        let reverse: Vec<&str> = ip.rsplit('.').collect();
        expect(ns, &format!("{}.in-addr.arpa.", reverse.join(".")), "PTR", &[target])?;
    }
    expect(ns, &host, "A", &[&pod_ip])?;
    let hosts = ns.kubectl(&["exec", "querier", "--", "cat", "/etc/hosts"])?;
    let own: Vec<Vec<&str>> = hosts.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [&pod_ip, host.trim_end_matches('.'), "querier-host"];
    ensure!(own.iter().any(|words| *words == expected), "{hosts}");
    external(ns)
}

fn external(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "service", "externalname", "other", "--external-name=foo.example.com"])?;
    expect(ns, "other", "CNAME", &["foo.example.com."])?;
    let put = |spec: &str| {
        ns.kubectl(&["patch", "service", "other", "--type=merge", "-p", &format!("{{\"spec\":{spec}}}")])
    };
    put(r#"{"externalName":"bar.example.com"}"#)?;
    expect(ns, "other", "CNAME", &["bar.example.com."])?;
    put(r#"{"type":"ClusterIP","externalName":null,"ports":[{"name":"http","port":80}]}"#)?;
    let service = ns.get(&["service", "other"])?;
    let cluster_ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    expect(ns, "other", "A", &[cluster_ip])
}

fn nameservers(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"own"},"spec":{"terminationGracePeriodSeconds":0,
        "dnsPolicy":"None","dnsConfig":{"nameservers":["192.0.2.53"],"searches":["resolv.conf.local"],
        "options":[{"name":"ndots","value":"2"}]},"containers":[{"name":"c","image":"tiphys.local/hello:1"}]}}"#,
    )?;
    ns.wait("condition=Ready", &["pod/own"])?;
    let file = ns.kubectl(&["exec", "own", "--", "cat", "/etc/resolv.conf"])?;
    let mut lines: Vec<&str> = file.lines().collect();
    lines.sort_unstable();
    ensure!(lines == ["nameserver 192.0.2.53", "options ndots:2", "search resolv.conf.local"], "{file}");
    Ok(())
}
