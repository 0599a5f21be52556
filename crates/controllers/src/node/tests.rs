use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, typed};

fn node(name: &str) -> Node {
    typed(json!({"metadata": {"name": name}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}))
}

fn lease(name: &str, renewed: u32) -> Lease {
    let time = format!("2026-01-01T00:00:{:02}.000000Z", renewed % 60);
    typed(
        json!({"metadata": {"name": name, "namespace": LEASES}, "spec": {"renewTime": time, "leaseTransitions": renewed}}),
    )
}

fn pod(node: &str, seconds: Option<i64>) -> Pod {
    typed(json!({
        "metadata": {"name": format!("on-{node}"), "namespace": "n"},
        "spec": {"nodeName": node, "containers": [], "tolerations": [{"operator": "Exists", "tolerationSeconds": seconds}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

fn ready(client: &FakeClient, name: &str) -> String {
    let node = client.find::<Node>("", name).unwrap();
    node.status.unwrap().conditions.unwrap()[0].status.clone()
}

/// Lets time pass while the named nodes renew their leases.
async fn pass(client: &FakeClient, seconds: u32, alive: &[&str]) {
    for second in 0..seconds {
        if second % 10 == 0 {
            alive.iter().for_each(|name| drop(client.put(&lease(name, second))));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_lost_and_its_pods_leave() {
    let client = FakeClient::new();
    for name in ["good", "bad"] {
        client.put(&node(name));
        client.put(&pod(name, Some(0)));
    }
    let _cluster = Cluster::start(client.clone());
    pass(&client, 200, &["good", "bad"]).await;
    assert_eq!((ready(&client, "good").as_str(), ready(&client, "bad").as_str()), ("True", "True"));
    pass(&client, 70, &["good"]).await;
    assert_eq!((ready(&client, "good").as_str(), ready(&client, "bad").as_str()), ("True", "Unknown"));
    let taints = client.find::<Node>("", "bad").unwrap().spec.unwrap().taints.unwrap();
    assert_eq!(taints.len(), 2);
    let lost = client.find::<Pod>("n", "on-bad").unwrap();
    assert!(lost.metadata.deletion_timestamp.is_some());
    assert_eq!(lost.status.unwrap().conditions.unwrap()[0].status, "False");
    assert!(client.find::<Pod>("n", "on-good").unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_when_all_nodes_seem_lost() {
    let client = FakeClient::new();
    client.put(&node("only"));
    client.put(&pod("only", Some(0)));
    let _cluster = Cluster::start(client.clone());
    pass(&client, 120, &[]).await;
    assert_eq!(ready(&client, "only"), "Unknown");
    let effects: Vec<_> = client
        .find::<Node>("", "only")
        .unwrap()
        .spec
        .unwrap()
        .taints
        .unwrap()
        .into_iter()
        .map(|t| t.effect)
        .collect();
    assert_eq!(effects, ["NoSchedule"]);
    assert!(client.find::<Pod>("n", "on-only").unwrap().metadata.deletion_timestamp.is_none());
}
