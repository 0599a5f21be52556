//! The official kubectl against the server: create, get, watch, patch, apply, delete.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::support::{Running, start};

/// The kubectl under `$KUBECTL`, to try another version than the one in the path.
fn program() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
}

/// `kubectl` with this server's kubeconfig and its own cache directory.
fn kubectl(running: &Running, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    let home = running.kubeconfig.parent().unwrap();
    command.arg("--kubeconfig").arg(&running.kubeconfig).arg("--cache-dir").arg(home.join("cache"));
    command.args(arguments).env("HOME", home).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(running: &Running, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = kubectl(running, arguments).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "kubectl {arguments:?}: {out}{err}");
    out.into_owned()
}

async fn installed() -> bool {
    let found = Command::new(program()).args(["version", "--client"]).output().await.is_ok();
    if !found {
        eprintln!("skipped: kubectl is not installed; on Debian it is in the package kubernetes-client");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_live_their_life_through_kubectl() {
    if !installed().await {
        return;
    }
    let running = start().await;
    run(&running, &["create", "namespace", "shop"]).await;
    run(&running, &["-n", "shop", "create", "configmap", "a", "--from-literal=k=v"]).await;
    let table = run(&running, &["-n", "shop", "get", "configmaps"]).await;
    assert!(table.starts_with("NAME") && table.contains("\na "), "{table}");
    assert_eq!(run(&running, &["-n", "shop", "get", "cm", "a", "-o", "jsonpath={.data.k}"]).await, "v");
    run(&running, &["-n", "shop", "patch", "cm", "a", "-p", r#"{"data":{"k":"w"}}"#]).await;
    run(&running, &["-n", "shop", "label", "cm", "a", "tier=front"]).await;
    let selected = run(&running, &["-n", "shop", "get", "cm", "-l", "tier=front", "-o", "name"]).await;
    assert_eq!(selected, "configmap/a\n");
    let yaml = run(&running, &["-n", "shop", "get", "cm", "a", "-o", "yaml"]).await;
    assert!(yaml.contains("k: w"), "{yaml}");
    run(&running, &["-n", "shop", "delete", "cm", "a"]).await;
    let gone = kubectl(&running, &["-n", "shop", "get", "cm", "a"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert_eq!(text, "Error from server (NotFound): configmaps \"a\" not found\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches_as_things_change() {
    if !installed().await {
        return;
    }
    let running = start().await;
    run(&running, &["create", "namespace", "shop"]).await;
    let arguments = ["-n", "shop", "get", "cm", "-w", "--no-headers"];
    let mut watching = kubectl(&running, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    run(&running, &["-n", "shop", "create", "cm", "first"]).await;
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(line.starts_with("first"), "{line}");
    run(&running, &["-n", "shop", "create", "cm", "second", "--from-literal=a=b"]).await;
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(line.starts_with("second"), "{line}");
}

const MANIFEST: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: tiphys.local/hello:1
        ports:
        - containerPort: 8080
"#;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads_what_the_server_tells_about_itself() {
    if !installed().await {
        return;
    }
    let running = start().await;
    let resources = run(&running, &["api-resources"]).await;
    for line in ["deployments ", "pods ", "customresourcedefinitions ", "endpointslices "] {
        assert!(resources.contains(line), "{line}: {resources}");
    }
    let versions = run(&running, &["api-versions"]).await;
    assert!(versions.contains("apps/v1\n") && versions.contains("\nv1\n"), "{versions}");
    let explained = run(&running, &["explain", "pod.spec.containers"]).await;
    assert!(explained.contains("KIND:") && explained.contains("imagePullPolicy"), "{explained}");
    let version = run(&running, &["version"]).await;
    assert!(version.contains("v1.36."), "{version}");
    let info = run(&running, &["cluster-info"]).await;
    assert!(info.contains("is running at"), "{info}");
    let ready = run(&running, &["get", "--raw", "/readyz?verbose"]).await;
    assert!(ready.ends_with("readyz check passed\n"), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_applied_by_client_and_by_server() {
    if !installed().await {
        return;
    }
    let running = start().await;
    let file = running.kubeconfig.with_file_name("web.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&running, &["apply", "-f", file]).await, "deployment.apps/web created\n");
    assert_eq!(run(&running, &["apply", "-f", file]).await, "deployment.apps/web unchanged\n");
    std::fs::write(file, MANIFEST.replace("replicas: 2", "replicas: 3")).unwrap();
    assert_eq!(run(&running, &["apply", "-f", file]).await, "deployment.apps/web configured\n");
    let again = run(&running, &["apply", "--server-side", "--force-conflicts", "-f", file]).await;
    assert_eq!(again, "deployment.apps/web serverside-applied\n");
    run(&running, &["scale", "deployment", "web", "--replicas=5"]).await;
    let replicas = run(&running, &["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"]).await;
    assert_eq!(replicas, "5");
    run(&running, &["create", "deployment", "other", "--image=tiphys.local/hello:1", "--replicas=3"]).await;
    run(&running, &["set", "image", "deployment/other", "hello=tiphys.local/hello:2"]).await;
    let described = run(&running, &["describe", "deployment", "other"]).await;
    assert!(described.contains("tiphys.local/hello:2"), "{described}");
    run(&running, &["expose", "deployment", "other", "--port=80", "--target-port=8080"]).await;
    let all = run(&running, &["get", "all"]).await;
    assert!(all.contains("deployment.apps/web") && all.contains("service/other"), "{all}");
    let sorted = run(&running, &["get", "deployments", "--sort-by=.metadata.name", "-o", "name"]).await;
    assert_eq!(sorted, "deployment.apps/other\ndeployment.apps/web\n");
    let unknown = kubectl(&running, &["create", "-f", "-"]).stdin(Stdio::piped()).output().await.unwrap();
    assert!(!unknown.status.success());
    run(&running, &["delete", "-f", file]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_finalizers_goes_when_they_are_gone() {
    if !installed().await {
        return;
    }
    let running = start().await;
    run(&running, &["create", "cm", "held"]).await;
    run(
        &running,
        &["patch", "cm", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":["example.com/hold"]}}"#],
    )
    .await;
    let arguments = ["get", "cm", "-w", "--output-watch-events", "--no-headers"];
    let mut watching = kubectl(&running, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("ADDED "), "the object is there at first");
    let mut deleting = kubectl(&running, &["delete", "cm", "held"]).stdout(Stdio::piped()).spawn().unwrap();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("MODIFIED "), "it is marked, and stays");
    let marked = run(&running, &["get", "cm", "held", "-o", "jsonpath={.metadata.deletionTimestamp}"]).await;
    assert!(marked.ends_with('Z'), "{marked}");
    run(
        &running,
        &["patch", "cm", "held", "--type=json", "-p", r#"[{"op":"remove","path":"/metadata/finalizers"}]"#],
    )
    .await;
    assert!(
        lines.next_line().await.unwrap().unwrap().starts_with("DELETED "),
        "it went with its last finalizer"
    );
    assert!(deleting.wait().await.unwrap().success(), "kubectl waited for it");
}
