use tiphys_api::json;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, serve_discovery, typed};

const MAPS: Gvr = Gvr::new("", "v1", "configmaps");

fn namespace() -> Namespace {
    typed(json!({"metadata": {"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}}))
}

#[tokio::test(start_paused = true)]
async fn pods_go_first_then_the_rest_then_the_namespace() {
    let client = FakeClient::new();
    serve_discovery(&client);
    client.put(&namespace());
    for name in ["a", "b"] {
        client.put_value(&MAPS, &json!({"metadata": {"name": name, "namespace": "shop"}}));
    }
    client.put_value(&MAPS, &json!({"metadata": {"name": "other", "namespace": "else"}}));
    client.put_value(
        &PODS,
        &json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"nodeName": "n1"}}),
    );
    let cluster = Cluster::start(client.clone());
    cluster.settle().await;
    // The pod has its grace period; until it ends, nothing else goes.
    assert!(client.get(&Target::new(&MAPS, "shop", "a")).await.is_ok());
    let conditions = client.find::<Namespace>("", "shop").unwrap().status.unwrap().conditions.unwrap();
    let remaining = conditions.iter().find(|c| c.type_ == "NamespaceContentRemaining").unwrap();
    assert_eq!(
        remaining.message.as_deref(),
        Some("Some resources are remaining: pods. has 1 resource instances")
    );

    client.remove(&PODS, "shop", "p");
    cluster.settle().await;
    assert!(client.get(&Target::new(&MAPS, "shop", "a")).await.is_err());
    assert!(client.find::<Namespace>("", "shop").is_none());
    assert!(client.get(&Target::new(&MAPS, "else", "other")).await.is_ok());
}
