//! What kubectl does for its users.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, Running, eventually, run};

pub const AREA: &[Table] = &[CASES];

const CASES: Table = &[
    (
        &["[sig-cli] Kubectl client Guestbook application should create and stop a working application"],
        Run::SharedIf(no_python, guestbook),
    ),
    (
        &[
            "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions",
            "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is \
             included in cluster-info",
            "[sig-cli] Kubectl client Kubectl version should check is all data is printed",
        ],
        Run::Shared(server),
    ),
    (
        &[
            "[sig-cli] Kubectl client Proxy server should support --unix-socket=/path",
            "[sig-cli] Kubectl client Proxy server should support proxy with --port 0",
        ],
        Run::Shared(proxy),
    ),
    (
        &[
            "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments",
        ],
        Run::Shared(diff),
    ),
    (
        &[
            "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information \
             for rc and pods",
            "[sig-cli] Kubectl client Kubectl expose should create services for rc",
            "[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc",
            "[sig-cli] Kubectl client Update Demo should create and stop a replication controller",
            "[sig-cli] Kubectl client Update Demo should scale a replication controller",
        ],
        Run::Shared(replication_controller),
    ),
    (
        &[
            "[sig-cli] Kubectl client Kubectl label should update the label on a resource",
            "[sig-cli] Kubectl client Kubectl logs should be able to retrieve and filter logs",
            "[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image",
            "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never",
            "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods",
        ],
        Run::Shared(pod),
    ),
];

fn server(ns: &Namespace<'_>) -> Result<()> {
    let versions = ns.kubectl(&["api-versions"])?;
    ensure!(versions.lines().any(|line| line == "v1"), "{versions}");
    let info = ns.kubectl(&["cluster-info"])?;
    ensure!(info.contains("Kubernetes") && info.contains("is running at"), "{info}");
    let version: serde_json::Value = serde_json::from_str(&ns.kubectl(&["version", "--output=json"])?)?;
    for side in ["clientVersion", "serverVersion"] {
        for part in ["major", "minor", "gitVersion", "buildDate", "compiler", "platform"] {
            let told = version[side][part].as_str().unwrap_or_default();
            ensure!(!told.is_empty(), "{side} does not tell its {part}: {version}");
        }
        ensure!(version[side]["gitCommit"].is_string(), "{side} does not tell its commit: {version}");
    }
    Ok(())
}

/// A request in kubectl's name that kubectl has no words for.
pub(super) fn proxied(
    ns: &Namespace<'_>,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> Result<String> {
    Proxy::start(ns, "--port=0")?.ask(method, path, kind, body)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A running `kubectl proxy`, and what it said first.
pub(super) struct Proxy {
    line: String,
    _running: Running,
}

impl Proxy {
    /// A request with a body of this kind; the whole answer.
    pub(super) fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<String> {
        let (_, port) = self.line.rsplit_once("127.0.0.1:").context("no port")?;
        let stream = std::net::TcpStream::connect(("127.0.0.1", port.trim().parse()?))?;
        let length = body.len();
        let head =
            format!("Content-Type: {kind}\r\nContent-Length: {length}\r\nAccept: application/json\r\n");
        exchange(
            stream,
            &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n{body}"),
        )
    }

    pub(super) fn start(ns: &Namespace<'_>, listen: &str) -> Result<Self> {
        let mut running =
            Running::bounded(ns.kubectl_command().args(["proxy", listen]).stdout(Stdio::piped()))?;
        let output = running.0.stdout.take();
        let mut line = String::new();
        BufReader::new(output.context("no output")?).read_line(&mut line)?;
        Ok(Self { line, _running: running })
    }
}

fn proxy(ns: &Namespace<'_>) -> Result<()> {
    let place = ns.cluster.scratch("proxy.sock");
    let _proxy = Proxy::start(ns, &format!("--unix-socket={}", place.display()))?;
    let request = "GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for answer in [exchange(UnixStream::connect(&place)?, request)?, proxied(ns, "GET", "/api", "", "")?] {
        ensure!(answer.contains(r#""versions""#) && answer.contains(r#""v1""#), "{answer}");
    }
    Ok(())
}

fn diff(ns: &Namespace<'_>) -> Result<()> {
    let deployment = |image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  replicas: 0\n  selector: \
             {{matchLabels: {{app: d}}}}\n  template:\n    metadata: {{labels: {{app: d}}}}\n    spec: {{containers: \
             [{{name: c, image: '{image}'}}]}}\n"
        )
    };
    ns.feed(&["create", "-f", "-"], &deployment("example.com/one:1"))?;
    let declared = ns.cluster.scratch("declared.yaml");
    std::fs::write(&declared, deployment("example.com/two:1"))?;
    let output = ns.kubectl_command().args(["diff", "-f"]).arg(&declared).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{} {told}", output.status);
    for line in ["-      - image: example.com/one:1", "+      - image: example.com/two:1"] {
        ensure!(told.lines().any(|told| told.trim_end() == line), "{line} is missing: {told}");
    }
    Ok(())
}

/// Waits until just so many pods of the controller run.
fn running(ns: &Namespace<'_>, count: usize) -> Result<Vec<String>> {
    eventually("the controller's pods", || {
        let fields = "jsonpath={range .items[?(@.status.phase=='Running')]}{.metadata.name} {end}";
        let all =
            ns.kubectl(&["get", "pods", "-l", "app=demo", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let run = ns.kubectl(&["get", "pods", "-l", "app=demo", "-o", fields])?;
        let (all, run) = (all.split_whitespace().count(), run.split_whitespace());
        let run: Vec<String> = run.map(str::to_owned).collect();
        ensure!(all == count && run.len() == count, "{all} pods, {run:?} run");
        Ok(run)
    })
}

fn replication_controller(ns: &Namespace<'_>) -> Result<()> {
    let controller = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: demo}\nspec:\n  replicas: 2\n  \
        selector: {app: demo}\n  template:\n    metadata: {labels: {app: demo}}\n    spec:\n      \
        terminationGracePeriodSeconds: 0\n      containers:\n      - {name: hello, image: 'tiphys.local/hello:1', \
        ports: [{containerPort: 8080}]}\n";
    ns.feed(&["create", "-f", "-"], controller)?;
    let pods = running(ns, 2)?;
    described(ns, pods.first().context("no pod")?)?;
    exposed(ns)?;
    for pod in &pods {
        ns.kubectl(&["patch", "pod", pod, "-p", r#"{"metadata":{"annotations":{"x":"y"}}}"#])?;
    }
    let notes =
        ns.kubectl(&["get", "pods", "-l", "app=demo", "-o", "jsonpath={.items[*].metadata.annotations.x}"])?;
    ensure!(notes == "y y", "{notes}");
    for replicas in [1, 2] {
        ns.kubectl(&["scale", "rc", "demo", &format!("--replicas={replicas}"), "--timeout=1m"])?;
        running(ns, replicas)?;
    }
    ns.kubectl(&["delete", "rc", "demo", "--grace-period=0", "--force"])?;
    running(ns, 0).map(drop)
}

fn described(ns: &Namespace<'_>, pod: &str) -> Result<()> {
    let node = ns.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let namespace = format!("Namespace:{}", ns.name);
    let named = |name: &str| format!("Name:{name}");
    let checks: [(&[&str], Vec<&str>); 4] = [
        (
            &["describe", "pod", pod],
            vec![
                &namespace,
                "Labels:app=demo",
                "Status:Running",
                "IP:",
                "ControlledBy:ReplicationController/demo",
                "Image:tiphys.local/hello:1",
                "State:Running",
            ],
        ),
        (
            &["describe", "rc", "demo"],
            vec![
                &namespace,
                "Selector:app=demo",
                "Labels:app=demo",
                "Annotations:",
                "Replicas:2current/2desired",
                "PodsStatus:2Running/0Waiting/0Succeeded/0Failed",
                "PodTemplate:",
                "Image:tiphys.local/hello:1",
                "Events:",
            ],
        ),
        (
            &["describe", "node", &node],
            vec![
                "Labels:",
                "Annotations:",
                "CreationTimestamp:",
                "Conditions:",
                "MemoryPressure",
                "DiskPressure",
                "PIDPressure",
                "Ready",
                "Addresses:",
                "Capacity:",
                "KubeletVersion:",
                "SystemInfo:",
            ],
        ),
        (&["describe", "namespace", &ns.name], vec!["Labels:", "Annotations:", "Status:Active"]),
    ];
    for (args, wanted) in checks {
        let told = ns.kubectl(args)?;
        let plain: String = told.split_whitespace().collect();
        let name = named(args.last().copied().unwrap_or_default());
        for part in wanted.into_iter().chain([name.as_str()]) {
            ensure!(plain.contains(part), "{args:?} does not tell {part}: {told}");
        }
    }
    Ok(())
}

fn exposed(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["expose", "rc", "demo", "--name=s1", "--port=1234", "--target-port=8080"])?;
    ns.kubectl(&["expose", "service", "s1", "--name=s2", "--port=2345", "--target-port=8080"])?;
    for (name, port) in [("s1", 1234), ("s2", 2345)] {
        let service = ns.get(&["service", name])?;
        let told = &service["spec"]["ports"][0];
        ensure!(told["port"] == port && told["targetPort"] == 8080, "{service}");
        let described = ns.kubectl(&["describe", "service", name])?;
        ensure!(described.contains("app=demo"), "{described}");
        eventually("the service's endpoints", || {
            let endpoints = ns.get(&["endpoints", name])?;
            let addresses = endpoints["subsets"][0]["addresses"].as_array().map_or(0, Vec::len);
            ensure!(addresses == 2 && endpoints["subsets"][0]["ports"][0]["port"] == 8080, "{endpoints}");
            Ok(())
        })?;
    }
    Ok(())
}

fn pod(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["run", "p", "--image=tiphys.local/hello:1", "--restart=Never", "--port=8080"])?;
    let made = ns.get(&["pod", "p"])?;
    let containers = made["spec"]["containers"].as_array().context("no containers")?;
    ensure!(containers.len() == 1 && containers[0]["image"] == "tiphys.local/hello:1", "{made}");
    ensure!(made["spec"]["restartPolicy"] == "Never", "{made}");
    ns.wait("condition=Ready", &["pod/p"])?;
    labelled(ns)?;
    logged(ns)?;
    let image = |pod: &serde_json::Value| pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
    let other = r#"{"spec":{"containers":[{"name":"p","image":"tiphys.local/pause:1"}]}}"#;
    let shown = ns.kubectl(&["patch", "pod", "p", "-p", other, "--dry-run=server", "-o", "json"])?;
    ensure!(image(&serde_json::from_str(&shown)?).as_deref() == Some("tiphys.local/pause:1"), "{shown}");
    let now = ns.get(&["pod", "p"])?;
    ensure!(image(&now).as_deref() == Some("tiphys.local/hello:1"), "a dry run changed it: {now}");
    let replaced = now.to_string().replace("tiphys.local/hello:1", "tiphys.local/pause:1");
    ns.feed(&["replace", "-f", "-"], &replaced)?;
    let after = ns.get(&["pod", "p"])?;
    ensure!(image(&after).as_deref() == Some("tiphys.local/pause:1"), "{after}");
    Ok(())
}

fn labelled(ns: &Namespace<'_>) -> Result<()> {
    let found = |selector: &str| ns.kubectl(&["get", "pods", "-l", selector, "-o", "name"]);
    ns.kubectl(&["label", "pods", "p", "testing-label=testing-label-value"])?;
    ensure!(found("testing-label=testing-label-value")?.trim() == "pod/p");
    let columns = ns.kubectl(&["get", "pod", "p", "-L", "testing-label"])?;
    ensure!(columns.contains("testing-label-value"), "{columns}");
    ns.kubectl(&["label", "pods", "p", "testing-label-"])?;
    ensure!(found("testing-label")?.is_empty());
    Ok(())
}

fn logged(ns: &Namespace<'_>) -> Result<()> {
    let logs = |args: &[&str]| ns.kubectl(&[&["logs", "p"], args].concat());
    let ask = || ns.kubectl(&["exec", "p", "--", "get", "http://127.0.0.1:8080/healthz"]);
    let (first, later) = ("listens on port 8080", "GET /healthz");
    ask()?;
    let all = eventually("two lines", || {
        let all = logs(&[])?;
        ensure!(all.contains(first) && all.contains(later), "{all}");
        Ok(all)
    })?;
    let last = logs(&["--tail=1"])?;
    ensure!(last.lines().count() == 1 && all.ends_with(&last), "{last}");
    ensure!(logs(&["--limit-bytes=1"])?.len() == 1);
    let stamped = logs(&["--tail=1", "--timestamps"])?;
    let stamp = stamped.split(' ').next().context("no timestamp")?;
    run(std::process::Command::new("date").args(["--date", stamp])).context("no time")?;
    eventually("the last second", || {
        ask()?;
        let recent = logs(&["--since=1s"])?;
        ensure!(recent.contains(later) && !recent.contains(first), "{recent}");
        Ok(())
    })?;
    let day = logs(&["--since=24h"])?;
    ensure!(day.contains(first), "{day}");
    Ok(())
}

/// The guestbook is a program in Python, the machine's own: the images that are there have no language.
const PYTHON: &str = "/usr/bin/python3";

fn no_python() -> Option<String> {
    (!std::path::Path::new(PYTHON).exists()).then(|| format!("there is no {PYTHON}"))
}

/// A Deployment and a Service for one part of the guestbook.
fn part(name: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}, labels: {{app: guestbook}}}}
spec: {{selector: {{part: {name}}}, ports: [{{port: 80, targetPort: 8000}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: guestbook}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{part: {name}}}}}
  template:
    metadata: {{labels: {{part: {name}, app: guestbook}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: tiphys.local/hello:1
        command: [{PYTHON}, -u, /app/guestbook.py, {name}]
        readinessProbe: {{httpGet: {{path: /, port: 8000}}, periodSeconds: 1}}
        volumeMounts:
        - {{name: app, mountPath: /app}}
        - {{name: usr, mountPath: /usr, readOnly: true}}
        - {{name: usr, mountPath: /lib, subPath: lib, readOnly: true}}
        - {{name: usr, mountPath: /lib64, subPath: lib64, readOnly: true}}
      volumes:
      - {{name: app, configMap: {{name: guestbook}}}}
      - {{name: usr, hostPath: {{path: /usr}}}}
---
"#
    )
}

fn guestbook(ns: &Namespace<'_>) -> Result<()> {
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/guestbook.py");
    ns.kubectl(&["create", "configmap", "guestbook", &format!("--from-file={}", program.display())])?;
    let all = [("primary", 1), ("replica", 2), ("frontend", 1)].map(|(name, replicas)| part(name, replicas));
    ns.apply(&all.concat())?;
    for name in ["primary", "replica", "frontend"] {
        ns.rolled_out(&format!("deployment/{name}"))?;
    }
    let path = format!("/api/v1/namespaces/{}/services/frontend/proxy/", ns.name);
    let ask = |query: &str| ns.kubectl(&["get", "--raw", &format!("{path}{query}")]);
    eventually("an entry is written", || {
        let told = ask("set?messages=TestEntry")?;
        ensure!(told == "written to 2 replicas", "{told}");
        Ok(())
    })?;
    // Each replica gives it back, whichever is asked.
    for _ in 0..8 {
        let told = ask("get?key=messages")?;
        ensure!(told == "TestEntry", "a replica tells {told:?}");
    }
    ns.feed(&["delete", "--ignore-not-found", "-f", "-"], &all.concat())?;
    eventually("it is gone", || {
        let left = ns.kubectl(&["get", "pods,deployments,services", "-l", "app=guestbook", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}
