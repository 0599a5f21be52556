use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;
use tiphys_client::{Api, DeleteOptions};
use tokio_util::task::AbortOnDropHandle;

use super::*;

pub(crate) fn config(start: &str) -> Config {
    Config {
        nodes: 3,
        prefix: "sim".into(),
        labels: vec![("pool".into(), "a".into())],
        taints: vec!["only=sim:NoSchedule".parse().unwrap()],
        zones: 2,
        cpu: "8".into(),
        memory: "32Gi".into(),
        pods: 110,
        version: "v1.36.0".into(),
        start_delay: start.parse().unwrap(),
        run_time: "10s".parse().unwrap(),
        stop_delay: "1s".parse().unwrap(),
    }
}

struct Running {
    client: FakeClient,
    _task: AbortOnDropHandle<()>,
}

async fn simulate(config: Config) -> Running {
    let client = FakeClient::new();
    let run = run(config, Arc::new(client.clone()), || {}, CancellationToken::new());
    let task = tokio::spawn(async move { run.await.unwrap() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    Running { client, _task: AbortOnDropHandle::new(task) }
}

fn pod(name: &str, node: &str, more: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"nodeName": node, "restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        for (field, value) in value.as_object().unwrap() {
            pod[key][field] = value.clone();
        }
    }
    pod
}

impl Running {
    fn phase(&self, name: &str) -> Option<String> {
        Some(self.client.find::<Pod>("n", name)?.status.unwrap_or_default().phase.unwrap_or_default())
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_ready_and_their_leases_are_renewed() {
    let running = simulate(config("0")).await;
    let nodes = running.client.all::<Node>("");
    assert_eq!(nodes.len(), 3);
    let zone = |node: &Node| node.metadata.labels.as_ref().unwrap()["topology.kubernetes.io/zone"].clone();
    assert_eq!(nodes.iter().map(zone).collect::<Vec<_>>(), ["zone-0", "zone-1", "zone-0"]);
    assert_eq!(nodes[0].spec.as_ref().unwrap().taints.as_ref().unwrap()[0].effect, "NoSchedule");
    let ready = nodes[2].status.as_ref().unwrap().conditions.as_ref().unwrap();
    assert!(ready.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let renewed = |running: &Running| {
        let lease = running.client.find::<Lease>("kube-node-lease", "sim-1").unwrap();
        lease.metadata.resource_version
    };
    let before = renewed(&running);
    running.pass(11).await;
    assert_ne!(before, renewed(&running));
    running.client.remove(&Node::GVR, "", "sim-1");
    running.pass(1).await;
    let gone = renewed(&running);
    running.pass(30).await;
    assert_eq!(gone, renewed(&running), "a machine that was taken away is silent");
}

#[tokio::test(start_paused = true)]
async fn a_pod_starts_after_its_delay_and_goes_when_deleted() {
    let running = simulate(config("5s")).await;
    running.client.put_value(&Pod::GVR, &pod("a", "sim-0", &json!({})));
    running.client.put_value(&Pod::GVR, &pod("foreign", "other", &json!({})));
    running.pass(4).await;
    assert_eq!(running.phase("a").unwrap(), "");
    running.pass(2).await;
    assert_eq!(
        (running.phase("a").unwrap().as_str(), running.phase("foreign").unwrap().as_str()),
        ("Running", "")
    );
    let status = running.client.find::<Pod>("n", "a").unwrap().status.unwrap();
    assert!(status.pod_ip.unwrap().starts_with("10.128."));
    assert!(status.container_statuses.unwrap()[0].ready);
    let writes = running.client.writes();
    running.pass(2).await;
    // Heartbeats aside, nothing is written again.
    assert!(running.client.writes() - writes <= 2);
    let api = Api::<Pod>::new(Arc::new(running.client.clone()), "n");
    api.delete("a", &DeleteOptions::default()).await.unwrap();
    running.pass(2).await;
    assert_eq!(running.phase("a"), None);
}

#[tokio::test(start_paused = true)]
async fn pods_of_jobs_end_as_they_are_told() {
    let running = simulate(config("0")).await;
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}]);
    let never = json!({"restartPolicy": "Never"});
    running.client.put_value(
        &Pod::GVR,
        &pod("good", "sim-0", &json!({"metadata": {"ownerReferences": owner}, "spec": never})),
    );
    let told = json!({"simulate.tiphys.io/run-time": "2s", "simulate.tiphys.io/exit-code": "3"});
    running.client.put_value(
        &Pod::GVR,
        &pod("bad", "sim-1", &json!({"metadata": {"annotations": told}, "spec": never})),
    );
    running.client.put_value(&Pod::GVR, &pod("server", "sim-1", &json!({"spec": never})));
    running.pass(1).await;
    assert_eq!(running.phase("good").unwrap(), "Running");
    running.pass(3).await;
    assert_eq!(
        (running.phase("good").unwrap().as_str(), running.phase("bad").unwrap().as_str()),
        ("Running", "Failed")
    );
    let ended = running.client.find::<Pod>("n", "bad").unwrap().status.unwrap();
    let state = ended.container_statuses.unwrap().remove(0).state.unwrap();
    assert_eq!((state.terminated.unwrap().exit_code, state.running), (3, None));
    running.pass(10).await;
    assert_eq!(
        (running.phase("good").unwrap().as_str(), running.phase("server").unwrap().as_str()),
        ("Succeeded", "Running")
    );
}
