//! What programs do through kube-rs, the Rust client: typed and dynamic objects, patches, pages, watches, streams.

use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, Discovery, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Run, Table};
use crate::harness::{Namespace, PATIENCE};

pub const CASES: Table = &[
    ("kube-rs-changes-objects", Run::Shared(|ns| within(ns, objects))),
    ("kube-rs-patches-in-every-form", Run::Shared(|ns| within(ns, patches))),
    ("kube-rs-pages-through-lists", Run::Shared(|ns| within(ns, pages))),
    ("kube-rs-watches-and-resumes", Run::Shared(|ns| within(ns, watches))),
    ("kube-rs-watcher-recovers-when-it-fell-behind", Run::Shared(|ns| within(ns, falls_behind))),
    ("kube-rs-logs-exec-and-forwards", Run::Shared(|ns| within(ns, streams))),
    ("kube-rs-discovers-kinds", Run::Shared(|ns| within(ns, dynamic))),
];

/// Runs a case with a client of the shared cluster and the name of its namespace.
fn within(ns: &Namespace<'_>, case: impl AsyncFnOnce(Client, &str) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(ns.cluster.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        tokio::time::timeout(PATIENCE, case(Client::try_from(config)?, &ns.name)).await?
    })
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.labels = Some([("made".to_owned(), "here".to_owned())].into());
    map.data = Some([("k".to_owned(), value.to_owned())].into());
    map
}

fn value(map: &ConfigMap) -> Option<&str> {
    map.data.as_ref()?.get("k").map(String::as_str)
}

/// The code of a refusal.
fn code<T>(answer: kube::Result<T>) -> Option<u16> {
    match answer {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

async fn objects(client: Client, ns: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, ns);
    let params = PostParams::default();
    let made = maps.create(&params, &config_map("a", "1")).await?;
    ensure!(made.uid().is_some() && made.creation_timestamp().is_some());
    ensure!(code(maps.create(&params, &made).await) == Some(500), "what has a resourceVersion is not new");
    ensure!(code(maps.create(&params, &config_map("a", "1")).await) == Some(409));
    let mut next = made.clone();
    next.data = config_map("a", "2").data;
    let replaced = maps.replace("a", &params, &next).await?;
    ensure!(value(&replaced) == Some("2") && replaced.resource_version() != made.resource_version());
    ensure!(code(maps.replace("a", &params, &next).await) == Some(409), "it was changed since");
    ensure!(maps.get_opt("none").await?.is_none());
    ensure!(maps.get_metadata("a").await?.labels().contains_key("made"));
    let dry = PostParams { dry_run: true, ..params };
    maps.create(&dry, &config_map("dry", "")).await?;
    ensure!(maps.get_opt("dry").await?.is_none());
    let selected = maps.list(&ListParams::default().labels("made=here").fields("metadata.name!=b")).await?;
    ensure!(selected.items.len() == 1);
    maps.delete("a", &DeleteParams::default()).await?;
    ensure!(code(maps.get("a").await) == Some(404));
    Ok(())
}

async fn patches(client: Client, ns: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client, ns);
    let template =
        json!({"metadata": {"labels": {"app": "p"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "p"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "p"}}, "template": template}});
    let me = PatchParams::apply("me");
    let made = deployments.patch("p", &me, &Patch::Apply(&applied)).await?;
    ensure!(made.spec.as_ref().and_then(|spec| spec.replicas) == Some(0));
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}});
    let them = PatchParams::apply("them");
    ensure!(
        code(deployments.patch("p", &them, &Patch::Apply(&other)).await) == Some(409),
        "two cannot own it"
    );
    deployments.patch("p", &them.clone().force(), &Patch::Apply(&other)).await?;
    let plain = PatchParams::default();
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "i"}]}}}});
    let merged = deployments.patch("p", &plain, &Patch::Strategic(&sidecar)).await?;
    let containers = merged.spec.and_then(|spec| spec.template.spec).map(|spec| spec.containers.len());
    ensure!(containers == Some(2), "{containers:?}");
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    let noted = deployments.patch_metadata("p", &plain, &Patch::Merge(&note)).await?;
    ensure!(noted.annotations().contains_key("note"));
    let scale =
        deployments.patch_scale("p", &plain, &Patch::Merge(&json!({"spec": {"replicas": 2}}))).await?;
    ensure!(scale.spec.and_then(|spec| spec.replicas) == Some(2));
    let status = json!({"status": {"conditions": [{"type": "Checked", "status": "True"}]}});
    let told = deployments.patch_status("p", &plain, &Patch::Merge(&status)).await?;
    ensure!(told.status.is_some_and(|status| status.conditions.is_some()));
    Ok(())
}

async fn pages(client: Client, ns: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, ns);
    for number in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("p{number}"), "")).await?;
    }
    let mut params = ListParams::default().labels("made=here").limit(2);
    let mut seen = Vec::new();
    loop {
        let page = maps.list(&params).await?;
        seen.extend(page.items.iter().map(ResourceExt::name_any));
        let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else { break };
        maps.create(&PostParams::default(), &config_map(&format!("q{}", seen.len()), "")).await?;
        params = params.continue_token(&token);
    }
    ensure!(seen == ["p0", "p1", "p2", "p3", "p4"], "{seen:?}");
    Ok(())
}

/// Writes more than the server keeps of the past.
async fn outgrow(maps: &Api<ConfigMap>) -> Result<()> {
    for number in 0..40 {
        let big = config_map("big", &number.to_string().repeat(400_000));
        let mut tree = serde_json::to_value(&big)?;
        tree["apiVersion"] = "v1".into();
        tree["kind"] = "ConfigMap".into();
        maps.patch("big", &PatchParams::apply("big"), &Patch::Apply(tree)).await?;
    }
    Ok(())
}

async fn watches(client: Client, ns: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, ns);
    let start = maps.list(&ListParams::default()).await?.metadata.resource_version.context("no revision")?;
    maps.create(&PostParams::default(), &config_map("w", "1")).await?;
    maps.patch("w", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await?;
    maps.delete("w", &DeleteParams::default()).await?;
    let selected = WatchParams::default().labels("made=here");
    let mut seen = Vec::new();
    let mut events = pin!(maps.watch(&selected, &start).await?);
    while seen.len() < 3 {
        match events.try_next().await?.context("the watch ended")? {
            WatchEvent::Added(map) => seen.push(format!("added {:?}", value(&map))),
            WatchEvent::Modified(map) => seen.push(format!("modified {:?}", value(&map))),
            WatchEvent::Deleted(map) => seen.push(format!("deleted {:?}", value(&map))),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => anyhow::bail!("{error:?}"),
        }
    }
    let expected = [r#"added Some("1")"#, r#"modified Some("2")"#, r#"deleted Some("2")"#];
    ensure!(seen == expected, "{seen:?}");
    outgrow(&maps).await?;
    let mut gone = pin!(maps.watch(&WatchParams::default(), &start).await?);
    let first = gone.try_next().await?.context("the watch ended")?;
    ensure!(matches!(&first, WatchEvent::Error(error) if error.code == 410), "{first:?}");
    Ok(())
}

/// A watcher that does not read while more happens than the server keeps is told so, lists anew, and goes on; other
/// requests go on meanwhile.
async fn falls_behind(client: Client, ns: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, ns);
    let mut events = pin!(watcher(maps.clone(), watcher::Config::default()).default_backoff());
    while !matches!(events.try_next().await?.context("it ended")?, watcher::Event::InitDone) {}
    for _ in 0..3 {
        outgrow(&maps).await?;
    }
    maps.create(&PostParams::default(), &config_map("last", "")).await?;
    let mut begun_anew = false;
    loop {
        match events.next().await.context("it ended")? {
            Ok(watcher::Event::Init) => begun_anew = true,
            Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) if map.name_any() == "last" => {
                break;
            }
            // The 410 is one of these.
            Ok(_) | Err(_) => {}
        }
    }
    ensure!(begun_anew, "nothing was lost: the watcher was not slow enough for this test");
    maps.create(&PostParams::default(), &config_map("later", "")).await?;
    loop {
        let event = events.try_next().await?.context("it ended")?;
        if matches!(&event, watcher::Event::Apply(map) if map.name_any() == "later") {
            return Ok(());
        }
    }
}

async fn streams(client: Client, ns: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, ns);
    let container = json!({"name": "c", "image": "tiphys.local/hello:1", "ports": [{"containerPort": 8080}]});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    kube::runtime::wait::await_condition(
        pods.clone(),
        "p",
        kube::runtime::wait::conditions::is_pod_running(),
    )
    .await?;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream("p", &follow).await?.lines();
    let line = lines.try_next().await?.context("no log")?;
    ensure!(line.contains("listens on port 8080"), "{line}");
    ensure!(
        pods.logs("p", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await?.contains("listens")
    );
    let mut cat = pods.exec("p", ["cat"], &AttachParams::default().stdin(true).stderr(false)).await?;
    let (mut input, mut output) = (cat.stdin().context("no input")?, cat.stdout().context("no output")?);
    input.write_all(b"to and fro\n").await?;
    let mut echoed = [0; 11];
    output.read_exact(&mut echoed).await?;
    ensure!(&echoed == b"to and fro\n", "{echoed:?}");
    // Input ends while output goes on.
    input.write_all(b"last words").await?;
    input.shutdown().await?;
    let mut rest = String::new();
    output.read_to_string(&mut rest).await?;
    let status = cat.take_status().context("no status")?.await.context("it ended without a status")?;
    ensure!(rest == "last words" && status.status.as_deref() == Some("Success"), "{rest:?} {status:?}");
    let mut fails = pods.exec("p", ["/bin/false"], &AttachParams::default()).await?;
    let status = fails.take_status().context("no status")?.await.context("it ended without a status")?;
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");
    let mut forward = pods.portforward("p", &[8080]).await?;
    let mut stream = forward.take_stream(8080).context("no stream")?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.contains("Hello from pod p"), "{answer}");
    pods.delete("p", &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

async fn dynamic(client: Client, ns: &str) -> Result<()> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let groups: Vec<&str> = discovery.groups().map(|group| group.name()).collect();
    ensure!(groups.contains(&"apps") && groups.contains(&""), "{groups:?}");
    let (resource, capabilities) = discovery
        .resolve_gvk(&kube::core::GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"))
        .context("no Lease")?;
    ensure!(capabilities.supports_operation(kube::discovery::verbs::WATCH));
    roundtrip(&Api::namespaced_with(client.clone(), ns, &resource), &resource).await?;
    ensure!(client.apiserver_version().await?.minor == "36");
    Ok(())
}

async fn roundtrip(leases: &Api<DynamicObject>, resource: &ApiResource) -> Result<()> {
    let lease = DynamicObject::new("l", resource).data(json!({"spec": {"holderIdentity": "me"}}));
    leases.create(&PostParams::default(), &lease).await?;
    let patch = json!({"spec": {"holderIdentity": "you", "unknown": 1}});
    leases.patch("l", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let strict = PatchParams::default().validation_strict();
    ensure!(code(leases.patch("l", &strict, &Patch::Merge(&patch)).await) == Some(422), "unknown fields");
    let found = leases.get("l").await?;
    let expected: Value = json!({"holderIdentity": "you"});
    ensure!(found.data["spec"] == expected, "{:?}", found.data);
    leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    ensure!(leases.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}
