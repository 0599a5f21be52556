//! The API as kubectl sees it: every kind, every way to print, explain, apply, edit and delete.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Run, Table};
use crate::harness::{Namespace, Running, eventually, repository, run};

pub const CASES: Table = &[
    ("node-is-ready-with-its-true-facts", Run::Shared(node_facts)),
    ("every-kind-lists-and-watches", Run::Shared(every_kind)),
    ("every-kind-is-described", Run::Shared(described)),
    ("discovery-explain-and-version", Run::Shared(discovery)),
    ("get-prints-sorts-and-selects", Run::Shared(get_forms)),
    ("apply-client-side-and-server-side", Run::Shared(apply_forms)),
    ("edit-patch-label-annotate", Run::Shared(edit)),
    ("namespace-deletion-empties-it-and-ends", Run::Shared(namespace_deletion)),
    ("rbac-limits-a-service-account", Run::Shared(rbac)),
    ("watch-follows-changes", Run::Shared(watch)),
    ("finalizers-hold-a-deletion", Run::Shared(finalizers)),
    ("old-and-new-kubectl-agree", Run::Shared(other_versions)),
];

fn node_facts(ns: &Namespace<'_>) -> Result<()> {
    let nodes = ns.get(&["nodes"])?;
    let node = nodes["items"].get(0).context("no node")?;
    let info = &node["status"]["nodeInfo"];
    let kernel = run(std::process::Command::new("uname").arg("-r"))?;
    ensure!(info["kernelVersion"] == kernel.trim(), "{info}");
    ensure!(
        info["containerRuntimeVersion"].as_str().is_some_and(|v| v.starts_with("containerd://")),
        "{info}"
    );
    // All there are, whatever share of them this process may use.
    let cpus = run(std::process::Command::new("getconf").arg("_NPROCESSORS_ONLN"))?;
    ensure!(node["status"]["capacity"]["cpu"] == cpus.trim(), "{}", node["status"]["capacity"]);
    let wide = ns.kubectl(&["get", "nodes", "-o", "wide"])?;
    ensure!(wide.contains(" Ready ") && wide.contains("containerd://") && wide.contains("v1.36"), "{wide}");
    ns.kubectl(&["describe", "nodes"]).map(drop)
}

fn every_kind(ns: &Namespace<'_>) -> Result<()> {
    let names = ns.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let names: Vec<&str> = names.lines().collect();
    ensure!(names.len() > 50, "only {} kinds", names.len());
    for name in &names {
        ns.kubectl(&["get", name, "-A", "-o", "wide"]).with_context(|| format!("get {name}"))?;
    }
    ns.kubectl(&["get", &names.join(","), "-A", "-o", "json"])?;
    Ok(())
}

/// Kinds without objects: nothing is kept of them, or what makes them is not there; and those that kubectls before 1.34
/// describe in a version that 1.36 serves only when asked to.
const NOT_DESCRIBED: &[&str] = &[
    "componentstatuses",
    "ipaddresses.networking.k8s.io",
    "servicecidrs.networking.k8s.io",
    "storageversions.internal.apiserver.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
];

fn described(ns: &Namespace<'_>) -> Result<()> {
    let manifest = include_str!("../every-kind.yaml");
    ns.apply(manifest)?;
    ns.wait("condition=Ready", &["pod/described"])?;
    ns.wait("condition=Established", &["crd/describeds.example.test"])?;
    ns.apply("apiVersion: example.test/v1\nkind: Described\nmetadata: {name: described}")?;
    let names = ns.kubectl(&["api-resources", "--verbs=list,get", "-o", "name"])?;
    for name in names.lines().filter(|name| !NOT_DESCRIBED.contains(name)) {
        // Again, if another case removed an object between kubectl's list and its look at each.
        eventually(&format!("{name} are described"), || {
            let text = ns.kubectl(&["describe", name, "-A"])?;
            ensure!(text.contains("Name:"), "{text}");
            Ok(())
        })?;
    }
    ns.feed(&["delete", "--wait=false", "-f", "-"], manifest)?;
    let detached = r#"{"metadata": {"finalizers": null}}"#;
    ns.kubectl(&["patch", "volumeattachment", "described", "--type=merge", "-p", detached]).map(drop)
}

fn discovery(ns: &Namespace<'_>) -> Result<()> {
    let explained = ns.kubectl(&["explain", "pod.spec.containers"])?;
    ensure!(explained.contains("imagePullPolicy") && explained.contains("List of containers"), "{explained}");
    let recursive = ns.kubectl(&["explain", "deployment", "--recursive"])?;
    ensure!(recursive.contains("maxSurge"), "{recursive}");
    let version = ns.kubectl(&["version"])?;
    ensure!(version.contains("v1.36.") && version.contains("tiphys"), "{version}");
    let info = ns.kubectl(&["cluster-info"])?;
    ensure!(info.contains("is running at"), "{info}");
    for path in ["/healthz", "/livez", "/readyz?verbose"] {
        let answer = ns.kubectl(&["get", "--raw", path])?;
        ensure!(answer.contains("ok"), "{path}: {answer}");
    }
    let metrics = ns.kubectl(&["get", "--raw", "/metrics"])?;
    for line in ["apiserver_request_total{", "workqueue_depth{name=\"deployment\"}"] {
        ensure!(metrics.contains(line), "no {line}");
    }
    Ok(())
}

fn get_forms(ns: &Namespace<'_>) -> Result<()> {
    for (name, colour) in [("c", "red"), ("a", "blue"), ("b", "red")] {
        ns.kubectl(&["create", "configmap", name, "--from-literal=k=v"])?;
        ns.kubectl(&["label", "configmap", name, &format!("colour={colour}")])?;
    }
    let names = |args: &[&str]| ns.kubectl(&[&["get", "configmaps", "-o", "name"], args].concat());
    ensure!(names(&["-l", "colour=red"])? == "configmap/b\nconfigmap/c\n");
    ensure!(names(&["-l", "colour notin (red)"])?.contains("configmap/a\n"));
    ensure!(names(&["--field-selector", "metadata.name=a"])? == "configmap/a\n");
    let sorted =
        ns.kubectl(&["get", "configmaps", "--sort-by=.metadata.creationTimestamp", "-l", "colour"])?;
    let order: Vec<&str> = sorted.lines().skip(1).filter_map(|l| l.split(' ').next()).collect();
    ensure!(order.len() == 3, "{sorted}");
    let yaml = ns.kubectl(&["get", "configmap", "a", "-o", "yaml"])?;
    ensure!(yaml.contains("k: v") && yaml.contains("resourceVersion:"), "{yaml}");
    ensure!(ns.kubectl(&["describe", "configmap", "a"])?.contains("Name:         a"));
    let missing = ns.kubectl_fails(&["get", "configmap", "nope"])?;
    ensure!(missing.trim() == r#"Error from server (NotFound): configmaps "nope" not found"#, "{missing}");
    let paged = ns.kubectl(&["get", "configmaps", "--chunk-size=1", "-o", "name"])?;
    ensure!(paged.lines().count() == 4, "kube-root-ca.crt and three: {paged}");
    Ok(())
}

fn apply_forms(ns: &Namespace<'_>) -> Result<()> {
    let manifest = |value: &str, more: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata:\n  k: {value}\n{more}")
    };
    ensure!(ns.apply(&manifest("one", "  gone: soon\n"))?.contains("created"));
    ensure!(ns.apply(&manifest("one", "  gone: soon\n"))?.contains("unchanged"));
    ensure!(ns.apply(&manifest("two", ""))?.contains("configured"));
    ensure!(ns.get(&["configmap", "m"])?["data"] == serde_json::json!({"k": "two"}));
    let server = |who: &str, text: &str, more: &[&str]| {
        let manager = format!("--field-manager={who}");
        ns.feed(&[&["apply", "--server-side", &manager, "-f", "-"], more].concat(), text)
    };
    let other = manifest("x", "").replace("name: m", "name: s");
    server("one", &other, &[])?;
    let conflict =
        server("two", &other.replace("k: x", "k: other"), &[]).err().context("no conflict")?.to_string();
    ensure!(conflict.contains("conflict with \"one\"") && conflict.contains(".data.k"), "{conflict}");
    server("two", &other.replace("k: x", "k: other"), &["--force-conflicts"])?;
    ensure!(ns.get(&["configmap", "s"])?["data"]["k"] == "other");
    // kubectl diff: 0 when nothing differs.
    ns.feed(&["diff", "-f", "-"], &manifest("two", "")).map(drop)
}

fn edit(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "configmap", "e", "--from-literal=k=before"])?;
    let mut edit = ns.kubectl_command();
    run(edit.args(["edit", "configmap", "e"]).env("KUBE_EDITOR", "sed -i s/before/after/"))?;
    ensure!(ns.get(&["configmap", "e"])?["data"]["k"] == "after");
    ns.kubectl(&[
        "patch",
        "configmap",
        "e",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/data/j","value":"1"}]"#,
    ])?;
    ns.kubectl(&["patch", "configmap", "e", "--type=merge", "-p", r#"{"data":{"k":null}}"#])?;
    ns.kubectl(&["annotate", "configmap", "e", "note=x"])?;
    let e = ns.get(&["configmap", "e"])?;
    ensure!(e["data"] == serde_json::json!({"j": "1"}) && e["metadata"]["annotations"]["note"] == "x", "{e}");
    Ok(())
}

fn namespace_deletion(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(2)?;
    ns.kubectl(&["create", "secret", "generic", "s", "--from-literal=a=b"])?;
    ns.kubectl(&["delete", "namespace", &ns.name, "--timeout=90s"])?;
    let left = ns.get(&["pods,secrets,configmaps,deployments,replicasets,services,endpointslices"])?;
    ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "{left}");
    Ok(())
}

fn rbac(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "serviceaccount", "reader"])?;
    ns.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"])?;
    let account = format!("--serviceaccount={}:reader", ns.name);
    ns.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account])?;
    let token = ns.kubectl(&["create", "token", "reader"])?;
    let server = format!("--server=https://127.0.0.1:{}", ns.cluster.https_port());
    let as_reader = |args: &[&str]| {
        let flags =
            ["--kubeconfig=/dev/null", &server, "--insecure-skip-tls-verify", "--token", token.trim()];
        let mut command = ns.kubectl_command();
        command.args(flags).args(args);
        run(&mut command)
    };
    eventually("the binding is in force", || as_reader(&["get", "configmaps"]))?;
    let refused = as_reader(&["get", "secrets"]).err().context("secrets were shown")?.to_string();
    let user = format!(r#"User "system:serviceaccount:{}:reader" cannot list resource "secrets""#, ns.name);
    ensure!(refused.contains(&user), "{refused}");
    let may: Value = as_reader(&["auth", "can-i", "get", "configmaps"])?.trim().into();
    ensure!(may == "yes", "{may}");
    Ok(())
}

fn watch(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "configmap", "w"])?;
    let mut command = ns.kubectl_command();
    let mut watch =
        Running::bounded(command.args(["get", "configmap", "w", "-w", "-o", "name"]).stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(watch.0.stdout.take().context("no output")?).lines();
    let first = lines.next().context("no first line")??;
    ns.kubectl(&["label", "configmap", "w", "seen=yes"])?;
    let second = lines.next().context("no second line")??;
    ensure!(first == "configmap/w" && second == "configmap/w", "{first} {second}");
    // The table form has its head once, and a row per event.
    let mut command = ns.kubectl_command();
    let mut watch = Running::bounded(command.args(["get", "configmap", "w", "-w"]).stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(watch.0.stdout.take().context("no output")?).lines();
    let head = lines.next().context("no head")??;
    let row = lines.next().context("no row")??;
    ensure!(head.starts_with("NAME") && row.starts_with("w "), "{head}\n{row}");
    Ok(())
}

fn finalizers(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "configmap", "f"])?;
    ns.kubectl(&["patch", "configmap", "f", "-p", r#"{"metadata":{"finalizers":["example.test/hold"]}}"#])?;
    ns.kubectl(&["delete", "configmap", "f", "--wait=false"])?;
    let held = ns.get(&["configmap", "f"])?;
    ensure!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    ns.kubectl(&["patch", "configmap", "f", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?;
    ensure!(ns.kubectl_fails(&["get", "configmap", "f"])?.contains("NotFound"));
    Ok(())
}

/// Every kubectl on this machine: beside the one in use, as `kubectl.1.NN` where a distribution keeps several, and the
/// distribution's own, which `scripts/packages` unpacks.
fn kubectls() -> Result<Vec<PathBuf>> {
    let real = std::fs::canonicalize(run(Command::new("sh").args(["-c", "command -v kubectl"]))?.trim())?;
    let beside = std::fs::read_dir(real.parent().unwrap_or(Path::new("/usr/bin")))?.filter_map(Result::ok);
    let is_kubectl = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "kubectl" || name.starts_with("kubectl.1.")
    };
    let mut all: Vec<PathBuf> = beside.map(|entry| entry.path()).filter(is_kubectl).collect();
    let unpacked = repository().join("target/distribution-kubectl/usr/bin/kubectl");
    all.extend(Some(unpacked).filter(|path| path.exists()));
    Ok(all)
}

fn other_versions(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(1)?;
    for (number, path) in kubectls()?.iter().enumerate() {
        let name = path.display().to_string();
        let kubectl = |args: &[&str]| {
            let mut command = Command::new(path);
            command.arg("--kubeconfig").arg(ns.cluster.kubeconfig()).args(["--namespace", &ns.name]);
            run(command.env("HOME", ns.cluster.scratch(&format!("home-{number}"))).args(args))
                .with_context(|| name.clone())
        };
        ensure!(kubectl(&["get", "pods"])?.contains("Running"), "{name}");
        kubectl(&["describe", "deployment", "hello"])?;
        kubectl(&["annotate", "deployment", "hello", "--overwrite", &format!("by=number-{number}")])?;
        ensure!(kubectl(&["exec", "deploy/hello", "--", "env"])?.contains("VERSION=1"), "{name}");
        ensure!(kubectl(&["logs", "deploy/hello"])?.contains("listens"), "{name}");
    }
    Ok(())
}
