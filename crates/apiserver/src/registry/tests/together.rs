//! Laws that the API server and the controllers keep together, whoever does what at the same time: no quota is exceeded
//! while the controller counts anew, no eviction breaks a budget, and none takes a pod that became ready meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use proptest::prelude::*;
use tiphys_api::{Gvr, Object, Status, Value, json};
use tiphys_client::{Client, DeleteOptions, Target, WatchEvent, WatchOptions, WatchStream, WriteOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::aggregate::AsUser;
use crate::auth::User;
use crate::local::{Documents, LocalClient};
use crate::registry::testing::{self, AllowAll, Fixture};

const CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const QUOTAS: Gvr = Gvr::new("", "v1", "resourcequotas");
const PODS: Gvr = Gvr::new("", "v1", "pods");
const SETS: Gvr = Gvr::new("apps", "v1", "replicasets");
const BUDGETS: Gvr = Gvr::new("policy", "v1", "poddisruptionbudgets");
/// What comes about at all comes about within this.
const LONG: Duration = Duration::from_secs(30);

/// Discovery of the one resource that is counted.
struct Discovery;

#[async_trait]
impl Documents for Discovery {
    fn elsewhere(&self, _: &Gvr, _: &User) -> Option<AsUser> {
        None
    }

    async fn document(&self, path: &str, _: &User) -> Result<Bytes, Status> {
        let maps = json!({"name": "configmaps", "kind": "ConfigMap", "namespaced": true,
            "verbs": ["create", "delete", "get", "list", "update", "watch"]});
        match path {
            "/apis" => Ok(json!({"groups": []}).to_string().into()),
            "/api/v1" => Ok(json!({"resources": [maps]}).to_string().into()),
            _ => Err(Status::no_such_path()),
        }
    }
}

/// An API server with the controllers at work.
struct Cluster {
    client: Arc<dyn Client>,
    _fixture: Fixture,
    _controllers: AbortOnDropHandle<()>,
}

impl Cluster {
    async fn start() -> Self {
        let fixture = testing::fixture().await;
        let client = LocalClient::new(fixture.registry.clone(), Arc::new(AllowAll), User::default(), "test");
        let client: Arc<dyn Client> = Arc::new(client.with_documents(Arc::new(Discovery)));
        let config = tiphys_controllers::Config::default();
        let run = tiphys_controllers::run(config, client.clone(), CancellationToken::new());
        let controllers = AbortOnDropHandle::new(tokio::spawn(async move { run.await.unwrap() }));
        Self { client, _fixture: fixture, _controllers: controllers }
    }

    async fn create(&self, gvr: &Gvr, object: &Value) -> Result<Object, Status> {
        create(&self.client, gvr, object).await
    }

    async fn follow(&self, gvr: &Gvr) -> Follower {
        Follower::start(&self.client, gvr).await
    }
}

async fn create(client: &Arc<dyn Client>, gvr: &Gvr, object: &Value) -> Result<Object, Status> {
    let target = Target::new(gvr, "n", "");
    client.create(&target, object.to_string().into(), &WriteOptions::default()).await
}

async fn evict(client: &Arc<dyn Client>, pod: &str) -> Result<Object, Status> {
    let target = Target::new(&PODS, "n", pod).sub("eviction");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    client.create(&target, eviction.to_string().into(), &WriteOptions::default()).await
}

/// A kubelet's word that a pod runs and is ready.
async fn make_ready(client: &Arc<dyn Client>, pod: &str) -> Result<Object, Status> {
    let target = Target::new(&PODS, "n", pod).sub("status");
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
    let kind = tiphys_client::PatchKind::Strategic;
    client.patch(&target, kind, status.to_string().into(), &WriteOptions::default()).await
}

/// A resource as its events tell it, one after another.
struct Follower {
    state: BTreeMap<String, Object>,
    watch: WatchStream,
}

impl Follower {
    async fn start(client: &Arc<dyn Client>, gvr: &Gvr) -> Self {
        let list = client.list(gvr, "n", &Default::default()).await.unwrap();
        let from = WatchOptions { resource_version: list.resource_version.to_string(), ..Default::default() };
        let state = list.items.into_iter().map(|object| (object.meta().name.to_string(), object)).collect();
        Self { state, watch: client.watch(gvr, "n", &from).await.unwrap() }
    }

    async fn next(&mut self) {
        match self.watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.state.insert(object.meta().name.to_string(), object);
            }
            WatchEvent::Deleted(object) => drop(self.state.remove(&*object.meta().name)),
            WatchEvent::Bookmark(_) => {}
        }
    }

    /// Follows until something holds.
    async fn until(&mut self, holds: impl Fn(&BTreeMap<String, Object>) -> bool) {
        let wait = async {
            while !holds(&self.state) {
                self.next().await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("it never came about");
    }

    /// Follows until `stop`, and through all that happened before; the first state that breaks the law, if any does.
    async fn keep(
        mut self,
        law: impl Fn(&BTreeMap<String, Object>) -> Result<(), String>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        loop {
            law(&self.state)?;
            tokio::select! { biased; () = self.next() => {}, () = stop.cancelled() => return Ok(()) }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn expected(status: &Status, reasons: &[&str]) -> bool {
    reasons.iter().any(|reason| status.is(reason))
}

/// Writers make and delete maps side by side.
async fn fill(hard: usize, writers: Vec<Vec<(u8, bool)>>) -> Result<(), String> {
    let cluster = Cluster::start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": hard.to_string()}}});
    cluster.create(&QUOTAS, &quota).await.unwrap();
    let used = |state: &BTreeMap<String, Object>| -> Option<usize> {
        let quota = state.get("q")?.value().ok()?;
        quota["status"]["used"]["configmaps"].as_str()?.parse().ok()
    };
    let mut quotas = cluster.follow(&QUOTAS).await;
    quotas.until(|state| used(state) == Some(0)).await;
    let stop = CancellationToken::new();
    let law = move |maps: &BTreeMap<String, Object>| match maps.len() {
        count if count <= hard => Ok(()),
        count => Err(format!("{count} of {hard} maps")),
    };
    let law = tokio::spawn(cluster.follow(&CONFIG_MAPS).await.keep(law, stop.clone()));
    let write = |script: Vec<(u8, bool)>| {
        let client = cluster.client.clone();
        tokio::spawn(async move {
            for (name, make) in script {
                let name = format!("m{name}");
                let done = match make {
                    true => {
                        create(&client, &CONFIG_MAPS, &json!({"metadata": {"name": name}})).await.map(drop)
                    }
                    false => {
                        let target = Target::new(&CONFIG_MAPS, "n", &name);
                        client.delete(&target, &DeleteOptions::default()).await.map(drop)
                    }
                };
                if let Err(status) = done {
                    assert!(expected(&status, &["Forbidden", "AlreadyExists", "NotFound"]), "{status}");
                }
            }
        })
    };
    join_all(writers.into_iter().map(write)).await.into_iter().for_each(|writer| writer.unwrap());
    let left = cluster.follow(&CONFIG_MAPS).await.state.len();
    quotas.until(|state| used(state) == Some(left)).await;
    stop.cancel();
    law.await.unwrap()
}

/// A node for all pods: makes them ready, and ends those that are to be deleted.
async fn run_pods(client: Arc<dyn Client>) {
    let mut pods = Follower::start(&client, &PODS).await;
    loop {
        for (name, pod) in &pods.state {
            // Others are faster now and then.
            if pod.meta().deleted.is_some() {
                drop(
                    client
                        .delete(&Target::new(&PODS, "n", name), &DeleteOptions::of(pod.meta()).at_once())
                        .await,
                );
            } else if !is_ready(pod) {
                drop(make_ready(&client, name).await);
            }
        }
        pods.next().await;
    }
}

fn is_ready(pod: &Object) -> bool {
    let value = pod.value().unwrap();
    let conditions = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Evicts side by side; how many evictions were let through.
async fn drain(size: usize, least: usize, evictors: Vec<Vec<u8>>) -> Result<usize, String> {
    let cluster = Cluster::start().await;
    let selector = json!({"matchLabels": {"app": "web"}});
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"metadata": {"name": "web"},
        "spec": {"replicas": size, "selector": selector, "template": template}});
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": least, "selector": selector}});
    cluster.create(&BUDGETS, &budget).await.unwrap();
    cluster.create(&SETS, &set).await.unwrap();
    let _node = AbortOnDropHandle::new(tokio::spawn(run_pods(cluster.client.clone())));
    let healthy = |state: &BTreeMap<String, Object>| {
        let budget = state["b"].value().unwrap();
        budget["status"]["currentHealthy"].as_u64() == Some(size as u64)
    };
    cluster.follow(&BUDGETS).await.until(healthy).await;
    let stop = CancellationToken::new();
    let serving = |pods: &BTreeMap<String, Object>| {
        pods.values().filter(|pod| pod.meta().deleted.is_none() && is_ready(pod)).count()
    };
    let law = move |pods: &BTreeMap<String, Object>| match serving(pods) {
        count if count >= least => Ok(()),
        count => Err(format!("{count} of {least} pods serve")),
    };
    let law = tokio::spawn(cluster.follow(&PODS).await.keep(law, stop.clone()));
    let evict_all = |places: Vec<u8>| {
        let client = cluster.client.clone();
        tokio::spawn(async move {
            let mut gone = 0;
            for place in places {
                let pods = client.list(&PODS, "n", &Default::default()).await.unwrap().items;
                let Some(pod) = pods.get(usize::from(place) % pods.len().max(1)) else { continue };
                match evict(&client, &pod.meta().name).await {
                    Ok(_) => gone += 1,
                    Err(status) => assert!(expected(&status, &["TooManyRequests", "NotFound"]), "{status}"),
                }
            }
            gone
        })
    };
    let gone =
        join_all(evictors.into_iter().map(evict_all)).await.into_iter().map(|gone| gone.unwrap()).sum();
    stop.cancel();
    law.await.unwrap().map(|()| gone)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_quota_is_never_exceeded_while_it_is_counted(
        hard in 1usize..6,
        writers in proptest::collection::vec(proptest::collection::vec((0u8..8, any::<bool>()), 1..24), 2..5),
    ) {
        let outcome = runtime().block_on(fill(hard, writers));
        prop_assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn evictions_at_the_same_time_never_break_a_budget(
        size in 2usize..6,
        spare in 0usize..3,
        evictors in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 2..5),
    ) {
        let outcome = runtime().block_on(drain(size, size.saturating_sub(spare), evictors));
        let gone = outcome.map_err(TestCaseError::fail)?;
        prop_assert!((gone > 0) == (spare > 0), "{gone} with {spare} to spare");
    }
}

/// Pods that do not run yet are free to go, but only those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_becomes_ready_while_it_is_judged_is_judged_anew() {
    let fixture = testing::fixture().await;
    let client = LocalClient::new(fixture.registry.clone(), Arc::new(AllowAll), User::default(), "test");
    let client: Arc<dyn Client> = Arc::new(client);
    let budget = json!({"metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    create(&client, &BUDGETS, &budget).await.unwrap();
    for round in 0..60 {
        let name = format!("p{round}");
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        create(&client, &PODS, &pod).await.unwrap();
        let (one, other, pod) = (client.clone(), client.clone(), name.clone());
        let evicted = tokio::spawn(async move { evict(&one, &pod).await });
        let ready = tokio::spawn(async move { make_ready(&other, &name).await });
        let (evicted, ready) = (evicted.await.unwrap(), ready.await.unwrap());
        // Ready before it was on its way: then there was a budget to ask, which allows none.
        let was_ready = ready.is_ok_and(|pod| pod.meta().deleted.is_none());
        assert!(evicted.is_err() || !was_ready, "round {round}: a ready pod was evicted");
    }
}
