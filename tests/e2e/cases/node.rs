//! The node: what it tells about itself and its pods, to whom, and what it does when something runs short.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Run, Table};
use crate::harness::{Cluster, Namespace, eventually, run};

pub const CASES: Table = &[
    ("kubectl-top-and-autoscalers-know-what-pods-use", Run::Shared(top)),
    ("the-kubelet-tells-statistics-and-metrics", Run::Shared(figures)),
    ("the-kubelet-asks-the-api-who-may", Run::Shared(access)),
    ("a-kubelet-configuration-is-obeyed", Run::Own(configuration)),
];

fn node(cluster: &Cluster) -> Result<String> {
    let name = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    ensure!(!name.is_empty(), "there is no node");
    Ok(name)
}

fn top(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(TOP)?;
    ns.rolled_out("deployment/top")?;
    let row = |args: &[&str]| -> Result<Vec<String>> {
        let text = ns.kubectl(&[&["top"], args, &["--no-headers"]].concat())?;
        let line = text.lines().next().context("kubectl top shows nothing")?;
        Ok(line.split_whitespace().map(str::to_owned).collect())
    };
    let pod = eventually("the pod's usage is known", || row(&["pod", "-l", "app=top"]))?;
    ensure!(
        pod.len() == 3 && pod[0].starts_with("top-") && pod[1].ends_with('m') && pod[2].ends_with("Mi"),
        "{pod:?}"
    );
    let node = row(&["node"])?;
    ensure!(node.len() == 5 && node[1].ends_with('m') && node[4].ends_with('%'), "{node:?}");
    let with_containers = row(&["pod", &pod[0], "--containers"])?;
    ensure!(with_containers[..2] == [pod[0].clone(), "c".to_owned()], "{with_containers:?}");
    let missing = ns.kubectl_fails(&["top", "pod", "nobody"])?;
    ensure!(missing.contains("NotFound"), "{missing}");
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods/{}", ns.name, pod[0]);
    let raw: Value = serde_json::from_str(&ns.kubectl(&["get", "--raw", &path])?)?;
    ensure!(raw["kind"] == "PodMetrics" && raw["metadata"]["labels"]["app"] == "top", "{raw}");
    ensure!(raw["containers"][0]["usage"]["memory"].is_string() && raw["window"].is_string(), "{raw}");
    let resources = ns.kubectl(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers"])?;
    ensure!(resources.lines().count() == 2, "{resources}");
    for (resource, row) in [("nodes.metrics.k8s.io", &node[0]), ("pods.metrics.k8s.io", &pod[0])] {
        let table = ns.kubectl(&["get", resource])?;
        let heads: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
        ensure!(heads == ["NAME", "CPU", "MEMORY", "WINDOW"] && table.contains(row.as_str()), "{table}");
    }
    ns.kubectl(&["autoscale", "deployment", "top", "--cpu-percent=50", "--min=1", "--max=2"])?;
    ns.wait("condition=ScalingActive", &["hpa/top"]).map(drop)
}

const TOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: top}
spec:
  selector: {matchLabels: {app: top}}
  template:
    metadata: {labels: {app: top}}
    spec:
      containers:
      - {name: c, image: 'tiphys.local/hello:1', resources: {requests: {cpu: 10m}}}
"#;

fn figures(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(PROBED)?;
    ns.wait("condition=Ready", &["pod/probed"])?;
    let node = node(ns.cluster)?;
    let page = |path: &str| ns.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")]);
    let json = |path: &str| -> Result<Value> { Ok(serde_json::from_str(&page(path)?)?) };
    ensure!(page("healthz")? == "ok");
    let summary = json("stats/summary")?;
    let pods = summary["pods"].as_array().context("no pods")?;
    let ours =
        pods.iter().find(|p| p["podRef"]["namespace"] == ns.name.as_str()).context("the pod is missing")?;
    let container = &ours["containers"][0];
    for (what, value) in [
        ("cpu of the container", &container["cpu"]["usageNanoCores"]),
        ("its memory", &container["memory"]["workingSetBytes"]),
        ("its layer", &container["rootfs"]["usedBytes"]),
        ("its logs", &container["logs"]["usedBytes"]),
        ("received bytes", &ours["network"]["rxBytes"]),
        ("processes", &ours["process_stats"]["process_count"]),
        ("the node's memory", &summary["node"]["memory"]["availableBytes"]),
        ("its disk", &summary["node"]["fs"]["capacityBytes"]),
        ("its images", &summary["node"]["runtime"]["imageFs"]["usedBytes"]),
    ] {
        ensure!(value.is_u64(), "{what} is missing in {summary:#}");
    }
    let label = format!("namespace=\"{}\",pod=\"probed\"", ns.name);
    for (path, series) in [
        ("metrics/resource", "container_cpu_usage_seconds_total{container=\"c\","),
        ("metrics/resource", "pod_memory_working_set_bytes{"),
        ("metrics/cadvisor", "container_memory_working_set_bytes{container=\"c\","),
        ("metrics/cadvisor", "container_network_receive_bytes_total{container=\"\","),
        ("metrics/probes", "prober_probe_total{container=\"c\","),
    ] {
        let text = page(path)?;
        let found = text.lines().any(|line| line.starts_with(series) && line.contains(&label));
        ensure!(found, "{path} has no {series} of {label}:\n{text}");
    }
    ensure!(page("metrics")?.contains("kubelet_running_pods"));
    ensure!(json("configz")?["kubeletconfig"]["maxPods"] == 110);
    let running = json("runningpods/")?;
    let running = running["items"].as_array().context("no pods")?;
    ensure!(running.iter().any(|p| p["metadata"]["namespace"] == ns.name.as_str()));
    Ok(())
}

const PROBED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  containers:
  - name: c
    image: tiphys.local/hello:1
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"#;

fn access(ns: &Namespace<'_>) -> Result<()> {
    let (node, account) = (node(ns.cluster)?, format!("system:serviceaccount:{}:default", ns.name));
    let path = ["get", "node", &node, "-o"];
    let host = ns.kubectl(&[&path[..], &["jsonpath={.status.addresses[0].address}"]].concat())?;
    let port =
        ns.kubectl(&[&path[..], &["jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}"]].concat())?;
    let (server, token) = (format!("https://{host}:{port}"), ns.kubectl(&["create", "token", "default"])?);
    let ask = |token: &str, path: &str| {
        // A kubeconfig of its own: the administrator's certificate would speak for it.
        let mut command = ns.cluster.kubectl_command();
        command.args(["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server]);
        run(command.args(["--token", token, "get", "--raw", path])).map_err(|error| format!("{error:#}"))
    };
    let stranger = ask("nonsense", "/metrics").err().context("a stranger was answered")?;
    ensure!(stranger.contains("Unauthorized") || stranger.contains("must be logged in"), "{stranger}");
    let refused = ask(token.trim(), "/configz").err().context("anybody was answered")?;
    ensure!(refused.contains("forbidden") || refused.contains("Forbidden"), "{refused}");
    let role = format!("metrics-{}", ns.name);
    ns.kubectl(&["create", "clusterrole", &role, "--verb=get", "--resource=nodes/metrics"])?;
    let subject = format!("--user={account}");
    ns.kubectl(&["create", "clusterrolebinding", &role, &format!("--clusterrole={role}"), &subject])?;
    let text = eventually("the role is known to the kubelet", || {
        ask(token.trim(), "/metrics").map_err(anyhow::Error::msg)
    })?;
    ensure!(text.contains("kubelet_node_name"), "{text}");
    ensure!(ask(token.trim(), "/pods").is_err(), "nodes/metrics is not nodes/proxy");
    ns.kubectl(&["delete", "clusterrole,clusterrolebinding", &role]).map(drop)
}

fn configuration() -> Result<()> {
    let cluster = Cluster::new("kubelet", 24)?;
    let file = cluster.scratch("kubelet.yaml");
    let start = |text: &str| -> Result<()> {
        std::fs::write(
            &file,
            format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}"),
        )?;
        run(cluster.up_command(&["--detach", "--kubelet-config"]).arg(&file)).map(drop)
    };
    let refused = start("maxPod: 1\n").err().context("a slip of the pen was taken")?;
    ensure!(format!("{refused:#}").contains("unknown field \"maxPod\""), "{refused:#}");
    start(
        "evictionHard: {memory.available: 1Mi}\nmaxPods: 7\nkubeReserved: {cpu: 100m}\ncontainerLogMaxSize: '300'\n\
         containerLogMaxFiles: 3\nhealthzPort: 16248\n",
    )?;
    ensure!(healthz(16248)? == "ok");
    let ns = cluster.namespace("node")?;
    let of_node =
        |path: &str| cluster.kubectl(&["get", "nodes", "-o", &format!("jsonpath={{.items[0].{path}}}")]);
    ensure!(of_node("status.capacity.pods")? == "7" && of_node("status.allocatable.cpu")?.ends_with("900m"));
    ns.apply(CHATTY)?;
    ns.wait("condition=Ready", &["pod/chatty"])?;
    let logs = format!("{}/log/pods/{}_chatty_", cluster.data_dir().display(), ns.name);
    eventually("the log is put aside", || {
        let mut files =
            std::fs::read_dir(cluster.data_dir().join("log/pods"))?.flatten().map(|entry| entry.path());
        let pod = files.find(|path| path.display().to_string().starts_with(&logs)).context("no logs")?;
        let names: Vec<String> = std::fs::read_dir(pod.join("c"))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ensure!(names.len() >= 2 && names.contains(&"0.log".to_owned()), "{names:?}");
        Ok(())
    })?;
    eventually("what it says goes into the new file", || {
        ensure!(!ns.kubectl(&["logs", "chatty", "--tail=1"])?.is_empty());
        Ok(())
    })?;
    cluster.stop()?;
    start("evictionHard: {memory.available: 100%}\n")?;
    ns.wait("jsonpath={.status.phase}=Failed", &["pod/chatty"])?;
    let status = ns.get(&["pod", "chatty"])?["status"].clone();
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(
        status["reason"] == "Evicted" && message.starts_with("The node was low on resource: memory."),
        "{status}"
    );
    let conditions = status["conditions"].as_array().context("no conditions")?;
    ensure!(conditions.iter().any(|c| c["reason"] == "TerminationByKubelet"), "{status}");
    ensure!(of_node("status.conditions[?(@.type==\"MemoryPressure\")].status")? == "True");
    eventually("the node is tainted", || {
        ensure!(of_node("spec.taints[*].key")?.contains("node.kubernetes.io/memory-pressure"));
        Ok(())
    })?;
    // Sent here by somebody who has not looked.
    let here = of_node("metadata.name")?;
    ns.apply(&CHATTY.replace("chatty", "sent").replace("spec:", &format!("spec:\n  nodeName: {here}")))?;
    ns.wait("jsonpath={.status.phase}=Failed", &["pod/sent"])?;
    let status = ns.get(&["pod", "sent"])?["status"].clone();
    let message = "Pod was rejected: The node had condition: [MemoryPressure]. ";
    ensure!(status["reason"] == "Evicted" && status["message"] == message, "{status}");
    cluster.stop()?;
    start(
        "evictionHard: {memory.available: 1Mi}\nshutdownGracePeriod: 20s\nshutdownGracePeriodCriticalPods: 5s\n",
    )?;
    shut_down(&cluster, &ns)
}

/// What the kubelet tells of its health at a port.
fn healthz(port: u16) -> Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")?;
    let mut told = String::new();
    socket.read_to_string(&mut told)?;
    let (head, body) = told.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    Ok(body.to_owned())
}

/// Before the machine goes down, pods are ended in order and told why; the next start finds them so.
fn shut_down(cluster: &Cluster, ns: &Namespace<'_>) -> Result<()> {
    let broken = cluster.data_dir().join("manifests/broken.yaml");
    std::fs::create_dir_all(broken.parent().context("no directory")?)?;
    std::fs::write(&broken, "apiVersion: v1\nkind: Pod\nmetadata: {name: broken}\nspec: {containers: []}\n")?;
    let fields = ["get", "events", "-n", "default", "--field-selector=reason=InvalidStaticPod"];
    eventually("the manifest that cannot be used is told of", || {
        let events = cluster.kubectl(&fields)?;
        let words =
            "couldn't parse as pod(invalid pod: spec.containers: Required value), please check config file";
        ensure!(events.contains("Could not process manifest file") && events.contains(words), "{events}");
        Ok(())
    })?;
    ns.apply(&CHATTY.replace("chatty", "last"))?;
    ns.wait("condition=Ready", &["pod/last"])?;
    run(crate::harness::tiphys().args(["stop", "--stop-pods", "--data-dir"]).arg(cluster.data_dir()))?;
    cluster.up()?;
    let status = ns.get(&["pod", "last"])?["status"].clone();
    let message = "Pod was terminated in response to imminent node shutdown.";
    ensure!(status["phase"] == "Failed" && status["reason"] == "Terminated", "{status}");
    ensure!(status["message"] == message, "{status}");
    let conditions = status["conditions"].as_array().context("no conditions")?;
    ensure!(
        conditions.iter().any(|c| c["reason"] == "TerminationByKubelet" && c["message"] == message),
        "{status}"
    );
    Ok(())
}

/// Says a line with each probe.
const CHATTY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: chatty}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: tiphys.local/hello:1
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"#;
