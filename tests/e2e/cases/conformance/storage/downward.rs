//! What a pod is told of itself in volumes, by the downward API alone and as a part of projected volumes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::Table;
use super::{USER, contents, lines, modes, pod, run};
use crate::cases::Run;
use crate::harness::{Namespace, eventually};

#[rustfmt::skip]
pub const CASES: Table = &[(
    &[
        "[sig-storage] Downward API volume should provide container's cpu limit [NodeConformance]",
        "[sig-storage] Downward API volume should provide container's cpu request [NodeConformance]",
        "[sig-storage] Downward API volume should provide container's memory limit [NodeConformance]",
        "[sig-storage] Downward API volume should provide container's memory request [NodeConformance]",
        "[sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance]",
        "[sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance]",
        "[sig-storage] Downward API volume should provide podname only [NodeConformance]",
        "[sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly] [NodeConformance]",
        "[sig-storage] Downward API volume should set mode on item file [LinuxOnly] [NodeConformance]",
        "[sig-storage] Downward API volume should update annotations on modification [NodeConformance]",
        "[sig-storage] Downward API volume should update labels on modification [NodeConformance]",
        "[sig-storage] Projected combined should project all components that make up the projection API [Projection][NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide container's cpu limit [NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide container's cpu request [NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide container's memory limit [NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide container's memory request [NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance]",
        "[sig-storage] Projected downwardAPI should provide podname only [NodeConformance]",
        "[sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly] [NodeConformance]",
        "[sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly] [NodeConformance]",
        "[sig-storage] Projected downwardAPI should update annotations on modification [NodeConformance]",
        "[sig-storage] Projected downwardAPI should update labels on modification [NodeConformance]",
    ],
    Run::Shared(told),
)];

/// Both kinds of volume.
const KINDS: [&str; 2] = ["plain", "projected"];

/// A volume of these files, by kind.
fn volume(kind: &str, items: &Value, mode: &Value) -> Value {
    match kind {
        "plain" => json!({"downwardAPI": {"items": items, "defaultMode": mode}}),
        _ => json!({"projected": {"sources": [{"downwardAPI": {"items": items}}], "defaultMode": mode}}),
    }
}

fn items() -> Value {
    let field = |path: &str, of: &str| json!({"path": path, "fieldRef": {"fieldPath": of}});
    let resource = |path: &str, container: &str, of: &str, divisor: &str| {
        let of = json!({"containerName": container, "resource": of, "divisor": divisor});
        json!({"path": path, "resourceFieldRef": of})
    };
    let mut narrow = field("narrow", "metadata.name");
    narrow["mode"] = json!(0o400);
    json!([
        field("name", "metadata.name"),
        narrow,
        field("labels", "metadata.labels"),
        field("annotations", "metadata.annotations"),
        resource("cpu-limit", "limited", "limits.cpu", "1m"),
        resource("cpu-request", "limited", "requests.cpu", "1m"),
        resource("memory-limit", "limited", "limits.memory", "1Mi"),
        resource("memory-request", "limited", "requests.memory", "1Mi"),
        resource("free-cpu", "free", "limits.cpu", "1m"),
        resource("free-memory", "free", "limits.memory", "1"),
    ])
}

fn told(ns: &Namespace<'_>) -> Result<()> {
    let mut volumes = Vec::new();
    for kind in KINDS {
        let name = json!([{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]);
        volumes.push((kind.to_owned(), volume(kind, &items(), &Value::Null)));
        volumes.push((format!("{kind}-mode"), volume(kind, &name, &json!(0o400))));
    }
    let sources = json!([{"configMap": {"name": "data"}}, {"secret": {"name": "data"}},
        {"downwardAPI": {"items": items()}}]);
    volumes.push(("all".to_owned(), json!({"projected": {"sources": sources}})));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "data": {"config": "c"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "data"}, "stringData": {"secret": "s"}});
    let mut pod = pod("p", &[("limited", USER), ("free", 0)], &volumes);
    pod["metadata"]["labels"] = json!({"key": "first"});
    pod["metadata"]["annotations"] = json!({"builder": "bar"});
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    run(ns, &[map, secret], &pod)?;
    for kind in KINDS {
        values(ns, kind)?;
    }
    let paths = ["all/config", "all/secret", "all/name", "all/cpu-limit"].map(|path| format!("/v/{path}"));
    let found = contents(ns, "limited", &paths)?;
    ensure!(found == b"csp500", "{found:?}");
    changes(ns)
}

fn values(ns: &Namespace<'_>, kind: &str) -> Result<()> {
    let at = |name: &str| format!("/v/{kind}/{name}");
    let value = |name: &str| Ok(String::from_utf8(contents(ns, "limited", &[at(name)])?)?);
    let numbers =
        [("cpu-limit", "500"), ("cpu-request", "10"), ("memory-limit", "64"), ("memory-request", "16")];
    for (name, expected) in [("name", "p")].into_iter().chain(numbers) {
        let found: Result<String> = value(name);
        let found = found?;
        ensure!(found == expected, "{kind} {name}: {found}");
    }
    let node = ns.get(&["nodes"])?["items"][0]["status"]["allocatable"].clone();
    let expected = [("free-cpu", milli(&node["cpu"])?), ("free-memory", bytes(&node["memory"])?)];
    for (name, expected) in expected {
        let found: Result<String> = value(name);
        let found: u64 = found?.parse()?;
        ensure!(found == expected, "{kind} {name}: {found}, not {expected}");
    }
    let paths = [
        format!("/v/{kind}/..data/name"),
        format!("/v/{kind}/..data/narrow"),
        format!("/v/{kind}-mode/..data/name"),
    ];
    let found = modes(ns, "free", &paths)?;
    ensure!(found == ["100644", "100400", "100400"], "{kind}: {found:?}");
    Ok(())
}

/// A quantity of CPU in milli-units.
fn milli(value: &Value) -> Result<u64> {
    let text = value.as_str().context("no quantity")?;
    match text.strip_suffix('m') {
        Some(milli) => Ok(milli.parse()?),
        None => Ok(text.parse::<u64>()? * 1000),
    }
}

/// A quantity of memory in bytes.
fn bytes(value: &Value) -> Result<u64> {
    let text = value.as_str().context("no quantity")?;
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let unit =
        units.iter().find_map(|(unit, bits)| Some(text.strip_suffix(unit)?.parse::<u64>().ok()? << bits));
    unit.map_or_else(|| Ok(text.parse()?), Ok)
}

/// The files follow the pod's labels and annotations.
fn changes(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["label", "--overwrite", "pod", "p", "key=second", "more=1"])?;
    ns.kubectl(&["annotate", "--overwrite", "pod", "p", "builder=foo"])?;
    eventually("the volumes show the new labels and annotations", || {
        for kind in KINDS {
            let paths = ["labels", "annotations"].map(|name| format!("/v/{kind}/{name}"));
            let found = lines(ns, "limited", &paths[..1])?;
            ensure!(found == ["key=\"second\"", "more=\"1\""], "{found:?}");
            let found = lines(ns, "limited", &paths[1..])?;
            ensure!(found.contains(&"builder=\"foo\"".to_owned()), "{found:?}");
        }
        Ok(())
    })
}
