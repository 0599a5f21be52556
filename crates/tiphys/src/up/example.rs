//! `up --apply FILE`: the first manifest, and proof that it works: what its Services answer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tiphys_api::{Gvk, Gvr, Object, Value};
use tiphys_client::{Client, Informers, PatchKind, Target, WriteOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::progress::Progress;

/// How long Deployments may take to be available.
const AVAILABLE_WITHIN: Duration = Duration::from_secs(120);
/// How long a Service's answer may take, and how often one that does not answer yet is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const DEPLOYMENTS: Gvr = Gvr::new("apps", "v1", "deployments");

/// Applies a manifest, waits for its Deployments, and shows its Services' answers.
pub async fn apply(client: Arc<dyn Client>, file: &Path, progress: &mut Progress) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("{} is no YAML", file.display()))?;
    let mut applied = Vec::new();
    for document in documents.iter().filter(|d| !d.is_null()) {
        applied.push(apply_one(&*client, document).await?);
    }
    progress.done(&format!("{} applied", file.display()));
    let informers = Informers::new(client);
    for (kind, object) in &applied {
        if kind == "Deployment" {
            available(&informers, object).await?;
            progress.done(&format!("deployment {} available", object.meta().name));
        }
    }
    for (kind, object) in &applied {
        if kind == "Service" {
            let (url, answer) = ask(object).await?;
            progress.done(&format!("service {} answers at {url}", object.meta().name));
            progress.say(&format!("\n    {}\n", answer.trim()));
        }
    }
    Ok(())
}

async fn apply_one(client: &dyn Client, document: &Value) -> Result<(String, Object)> {
    let text = |path: &str| document.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let gvk = Gvk::from_api_version(text("/apiVersion"), text("/kind"));
    let resource =
        tiphys_api::schema::builtin().by_kind(&gvk).with_context(|| format!("there is no kind {gvk}"))?;
    let namespace = match (resource.namespaced, text("/metadata/namespace")) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) => given,
    };
    let target = Target::new(&resource.gvr, namespace, text("/metadata/name"));
    let options = WriteOptions { field_manager: "tiphys".into(), force: true, dry_run: false };
    let applied = client.patch(&target, PatchKind::Apply, document.to_string().into(), &options).await;
    Ok((gvk.kind.to_string(), applied.with_context(|| format!("{} {}", gvk.kind, target.name))?))
}

/// Waits until all replicas of a Deployment's newest template are available.
async fn available(informers: &Informers, deployment: &Object) -> Result<()> {
    let (namespace, name) = (deployment.meta().namespace.to_string(), deployment.meta().name.to_string());
    let informer = informers.of(&DEPLOYMENTS);
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    informer.on_change(Box::new(move |_, _| tell.notify_one()));
    let done = async {
        while !informer.get(&namespace, &name).is_some_and(|d| is_available(&d)) {
            changed.notified().await;
        }
    };
    let timely = tokio::time::timeout(AVAILABLE_WITHIN, done).await;
    timely.with_context(|| {
        format!("deployment {name} is not available; see `kubectl describe deployment {name}`")
    })
}

fn is_available(deployment: &Object) -> bool {
    let Ok(value) = deployment.value() else { return false };
    let number = |path: &str| value.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let wanted = value.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    number("/status/observedGeneration") >= deployment.meta().generation
        && number("/status/updatedReplicas") == wanted
        && number("/status/availableReplicas") == wanted
}

/// What a Service answers at its cluster address.
async fn ask(service: &Object) -> Result<(String, String)> {
    let value = service.value()?;
    let ip = value.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default();
    let port = value.pointer("/spec/ports/0/port").and_then(Value::as_u64).unwrap_or(80);
    let address: SocketAddr = format!("{ip}:{port}").parse().context("the Service has no cluster address")?;
    let url = format!("http://{address}/");
    let end = tokio::time::Instant::now() + ANSWER_WITHIN;
    loop {
        // The packet rules follow the API within moments, but say nothing when they have.
        let asked = tokio::time::timeout(ANSWER_WITHIN, get(address)).await;
        match asked.unwrap_or_else(|_| Err(anyhow!("it takes the connection, but says nothing"))) {
            Ok(answer) => return Ok((url, answer)),
            Err(error) if tokio::time::Instant::now() >= end => {
                return Err(error.context(format!("no answer from {url}")));
            }
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

async fn get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => bail!("{address} did not answer as a web server"),
    }
}
