//! What containers find in their environment, and what commands are made of it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{Run, Table, logs, phase, pod};
use crate::harness::Namespace;

pub const CASES: Table = &[
    (
        &[
            "[sig-node] ConfigMap should be consumable via environment variable [NodeConformance]",
            "[sig-node] ConfigMap should be consumable via the environment [NodeConformance]",
            "[sig-node] Secrets should be consumable from pods in env vars [NodeConformance]",
            "[sig-node] Secrets should be consumable via the environment [NodeConformance]",
            "[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars [NodeConformance]",
            "[sig-node] Downward API should provide default limits.cpu/memory from node allocatable [NodeConformance]",
            "[sig-node] Downward API should provide host IP as an env var [NodeConformance]",
            "[sig-node] Downward API should provide pod UID as env vars [NodeConformance]",
            "[sig-node] Downward API should provide pod name, namespace and IP address as env vars [NodeConformance]",
            "[sig-node] Variable Expansion should allow composing env vars into new env vars [NodeConformance]",
            "[sig-node] Variable Expansion should allow substituting values in a container's args [NodeConformance]",
            "[sig-node] Variable Expansion should allow substituting values in a container's command [NodeConformance]",
            "[sig-node] Pods should contain environment variables for services [NodeConformance]",
        ],
        Run::Shared(environment),
    ),
    (
        &[
            "[sig-node] Docker Containers should be able to override the image's default arguments (docker cmd) [NodeConformance]",
            "[sig-node] Docker Containers should be able to override the image's default command (docker entrypoint) [NodeConformance]",
            "[sig-node] Docker Containers should be able to override the image's default command and arguments [NodeConformance]",
            "[sig-node] Docker Containers should use the image defaults if command and args are blank [NodeConformance]",
        ],
        Run::Shared(commands),
    ),
];

const SOURCES: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: map}
data: {data-1: value-1, data-2: value-2}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {data-1: hidden-1, data-2: hidden-2}
---
apiVersion: v1
kind: Service
metadata: {name: fooservice}
spec: {selector: {name: env}, ports: [{port: 8765, targetPort: 8080}]}
---
";

fn variables() -> String {
    let field =
        |name: &str, path: &str| format!("{{name: {name}, valueFrom: {{fieldRef: {{fieldPath: {path}}}}}}}");
    let resource = |name: &str, of: &str| {
        format!("{{name: {name}, valueFrom: {{resourceFieldRef: {{resource: {of}}}}}}}")
    };
    [
        "{name: FROM_MAP, valueFrom: {configMapKeyRef: {name: map, key: data-1}}}".to_owned(),
        "{name: FROM_SECRET, valueFrom: {secretKeyRef: {name: secret, key: data-1}}}".to_owned(),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        field("HOST_IP", "status.hostIP"),
        field("POD_UID", "metadata.uid"),
        resource("CPU_LIMIT", "limits.cpu"),
        resource("CPU_REQUEST", "requests.cpu"),
        resource("MEMORY_LIMIT", "limits.memory"),
        resource("MEMORY_REQUEST", "requests.memory"),
        "{name: FOO, value: foo-value}".to_owned(),
        "{name: BAR, value: bar-value}".to_owned(),
        "{name: FOOBAR, value: '$(FOO);;$(BAR);;$(NOBODY);;$$(FOO)'}".to_owned(),
    ]
    .join(", ")
}

fn environment(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(SOURCES)?;
    let from =
        "envFrom: [{prefix: map_, configMapRef: {name: map}}, {prefix: secret_, secretRef: {name: secret}}]";
    let all = format!("name: all, command: [env], {from}, env: [{}]", variables());
    let sizes = "resources: {requests: {cpu: 250m, memory: 32Mi}, limits: {cpu: 1250m, memory: 64Mi}}";
    let file = "env: [{name: FILE, value: /etc/hostname}, {name: TOOL, value: cat}]";
    ns.apply(&pod(
        "env",
        "restartPolicy: Never",
        &[
            &format!("{all}, {sizes}"),
            &format!("name: unlimited, command: [env], env: [{}]", variables()),
            &format!("name: args, command: [cat], args: ['$(FILE)'], {file}"),
            &format!("name: command, command: ['$(TOOL)', '$(FILE)'], {file}"),
        ],
    ))?;
    let pod = phase(ns, "env", "Succeeded")?;
    let read = |container: &str| -> Result<BTreeMap<String, String>> {
        let text = logs(ns, "env", container)?;
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(text.lines().filter_map(pair).collect())
    };
    let seen = read("all")?;
    let own = |path: &str| pod.pointer(path).and_then(|value| value.as_str()).unwrap_or("missing");
    for (name, value) in [
        ("FROM_MAP", "value-1"),
        ("map_data-1", "value-1"),
        ("map_data-2", "value-2"),
        ("FROM_SECRET", "hidden-1"),
        ("secret_data-1", "hidden-1"),
        ("secret_data-2", "hidden-2"),
        ("POD_NAME", "env"),
        ("POD_NAMESPACE", &ns.name),
        ("POD_IP", own("/status/podIP")),
        ("HOST_IP", own("/status/hostIP")),
        ("POD_UID", own("/metadata/uid")),
        ("CPU_LIMIT", "2"),
        ("CPU_REQUEST", "1"),
        ("MEMORY_LIMIT", "67108864"),
        ("MEMORY_REQUEST", "33554432"),
        ("FOOBAR", "foo-value;;bar-value;;$(NOBODY);;$(FOO)"),
    ] {
        ensure!(seen.get(name).is_some_and(|seen| seen == value), "{name} is not {value}: {seen:?}");
    }
    services(ns, &seen)?;
    let node = ns.get(&["node", own("/spec/nodeName")])?;
    let unlimited = read("unlimited")?;
    ensure!(node["status"]["allocatable"]["cpu"] == unlimited["CPU_LIMIT"].as_str(), "{unlimited:?} {node}");
    ensure!(unlimited["MEMORY_LIMIT"].parse::<u64>()? > 1 << 26, "{unlimited:?}");
    ensure!(unlimited["CPU_REQUEST"] == "0" && unlimited["MEMORY_REQUEST"] == "0", "{unlimited:?}");
    for container in ["args", "command"] {
        let said = logs(ns, "env", container)?;
        ensure!(said.trim() == "env", "{container}: {said}");
    }
    Ok(())
}

fn services(ns: &Namespace<'_>, seen: &BTreeMap<String, String>) -> Result<()> {
    let ip = ns.kubectl(&["get", "service", "fooservice", "-o", "jsonpath={.spec.clusterIP}"])?;
    for (name, value) in [
        ("SERVICE_HOST", ip.clone()),
        ("SERVICE_PORT", "8765".into()),
        ("PORT", format!("tcp://{ip}:8765")),
        ("PORT_8765_TCP_PORT", "8765".into()),
        ("PORT_8765_TCP_PROTO", "tcp".into()),
        ("PORT_8765_TCP", format!("tcp://{ip}:8765")),
        ("PORT_8765_TCP_ADDR", ip.clone()),
    ] {
        ensure!(seen.get(&format!("FOOSERVICE_{name}")) == Some(&value), "{name} is not {value}: {seen:?}");
    }
    Ok(())
}

fn commands(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&pod(
        "commands",
        "",
        &[
            "name: defaults, env: [{name: PORT, value: '8001'}]",
            "name: args, args: ['8002']",
            "name: command, command: [/tiphys, hello, '8003']",
            "name: both, command: [/tiphys, hello], args: ['8004']",
        ],
    ))?;
    ns.wait("condition=Ready", &["pod/commands"])?;
    for (container, port) in [("defaults", 8001), ("args", 8002), ("command", 8003), ("both", 8004)] {
        crate::harness::eventually("it tells its port", || {
            let said = logs(ns, "commands", container)?;
            ensure!(said.contains(&format!("listens on port {port}")), "{container}: {said}");
            Ok(())
        })?;
    }
    Ok(())
}
