//! The official kubectl against the server: create, get, watch, patch, apply, delete.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::support::{Running, start};

/// `kubectl` with this server's kubeconfig and its own cache directory.
fn kubectl(running: &Running, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
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
    let found = Command::new("kubectl").args(["version", "--client"]).output().await.is_ok();
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
