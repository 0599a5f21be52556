//! What controllers' tests share: a fake cluster with the controllers running on paused time, and a node that makes
//! pods run.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use tiphys_api::{Object, Value, json};
use tiphys_client::Api;
use tiphys_client::fake::FakeClient;
use tiphys_client::typed::Kind;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Config;
use crate::pods::Facts;

/// A fake cluster under control.
pub(crate) struct Cluster {
    pub(crate) client: FakeClient,
    _running: AbortOnDropHandle<()>,
}

/// A value as a test writes it.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value.into()).unwrap()
}

/// Serves discovery of some kinds: Pods, ConfigMaps, ReplicaSets, Deployments.
pub(crate) fn serve_discovery(client: &FakeClient) {
    let resource = |name: &str, kind: &str| {
        json!({"name": name, "kind": kind, "namespaced": true,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
    };
    let apps = json!({"groupVersion": "apps/v1", "version": "v1"});
    client.serve_path(
        "/apis",
        &json!({"groups": [{"name": "apps", "versions": [apps], "preferredVersion": apps}]}),
    );
    let core = [resource("pods", "Pod"), resource("configmaps", "ConfigMap")];
    client.serve_path("/api/v1", &json!({"resources": core}));
    let apps = [resource("replicasets", "ReplicaSet"), resource("deployments", "Deployment")];
    client.serve_path("/apis/apps/v1", &json!({"resources": apps}));
}

impl Cluster {
    /// Starts all controllers on what `client` holds.
    pub(crate) fn start(client: FakeClient) -> Self {
        Self::start_with(client, Config::default())
    }

    pub(crate) fn start_with(client: FakeClient, config: Config) -> Self {
        let run = crate::run(config, Arc::new(client.clone()), CancellationToken::new());
        let running = tokio::spawn(async move { run.await.unwrap() });
        Self { client, _running: AbortOnDropHandle::new(running) }
    }

    /// Lets everything happen that happens within some seconds of paused time.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    /// Binds all pods to a node and makes them ready; removes those under deletion.
    pub(crate) async fn run_pods(&self) {
        for mut pod in self.client.all::<Pod>("") {
            if pod.metadata.deletion_timestamp.is_some() {
                self.client.remove(&Pod::GVR, pod.namespace(), pod.name());
                continue;
            }
            if pod.status.as_ref().is_some_and(|status| status.phase.is_some()) {
                continue;
            }
            pod.spec.get_or_insert_default().node_name = Some("node-1".into());
            pod.status = Some(running_status());
            self.client.put(&pod);
        }
        self.settle().await;
    }

    pub(crate) fn api<T: Kind>(&self, namespace: &str) -> Api<T> {
        Api::new(Arc::new(self.client.clone()), namespace)
    }

    /// The reasons and messages of all events, in order.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut events = self.client.all::<k8s_openapi::api::core::v1::Event>("");
        events.sort_by_key(|event| event.metadata.resource_version.clone().unwrap().parse::<u64>().unwrap());
        let text = |e: &k8s_openapi::api::core::v1::Event| {
            format!("{}: {}", e.reason.clone().unwrap(), e.message.clone().unwrap())
        };
        events.iter().map(text).collect()
    }
}

fn running_status() -> PodStatus {
    PodStatus {
        phase: Some("Running".into()),
        pod_ip: Some("10.42.0.9".into()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(jiff::Timestamp::now())),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    }
}

/// Facts of a pod with a name (which is its uid, too), bound or not, and ready since so many seconds after the epoch.
pub(crate) fn facts(name: &str, node: &str, ready: Option<i64>) -> Arc<Facts> {
    let since = ready.map(|second| jiff::Timestamp::from_second(second).unwrap().to_string());
    let condition = since.map(|at| json!({"type": "Ready", "status": "True", "lastTransitionTime": at}));
    let pod = json!({
        "metadata": {"name": name, "uid": name, "namespace": "n", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"nodeName": node},
        "status": {"phase": if node.is_empty() { "Pending" } else { "Running" },
            "conditions": condition.into_iter().collect::<Vec<_>>()},
    });
    Arc::new(Facts::of(&Object::from_value(&pod).unwrap()).unwrap())
}
