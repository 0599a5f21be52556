use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use tiphys_api::json;
use tiphys_client::fake::FakeClient;
use tiphys_client::typed::Kind;

use super::*;
use crate::testing::{Cluster, facts, typed};

fn set(replicas: i32) -> ReplicaSet {
    typed(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "rs", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }))
}

fn plan_of(set: &ReplicaSet, pods: &[Arc<Facts>], fresh: bool) -> Plan {
    let per_node = HashMap::from([("busy".into(), 5), ("calm".into(), 1)]);
    let now = Timestamp::from_second(1_000_000).unwrap();
    plan::plan(&Snapshot { set, pods, per_node: &per_node, fresh }, now)
}

#[test]
fn the_cheapest_pods_go_first() {
    let pods = [
        facts("old-calm", "calm", Some(0)),
        facts("old-busy", "busy", Some(0)),
        facts("young-busy", "busy", Some(999_000)),
        facts("not-ready", "calm", None),
        facts("unbound", "", None),
    ];
    let mut order = Vec::new();
    for keep in (1..5).rev() {
        let plan = plan_of(&set(keep), &pods, true);
        order.push(plan.delete.last().unwrap().meta().name.to_string());
    }
    assert_eq!(order, ["unbound", "not-ready", "young-busy", "old-busy"]);
}

#[test]
fn a_stale_cache_holds_everything_back() {
    let plan = plan_of(&set(3), &[], false);
    assert_eq!((plan.create, plan.delete.len()), (0, 0));
    assert_eq!(plan_of(&set(3), &[], true).create, 3);
    assert_eq!(plan_of(&set(9_000), &[], true).create, 5_000, "one pass has its bound");
}

#[tokio::test(start_paused = true)]
async fn pods_are_made_kept_and_removed() {
    let cluster = Cluster::start(FakeClient::new());
    let sets = cluster.api::<ReplicaSet>("n");
    let made = sets.create(&set(3)).await.unwrap();
    cluster.settle().await;
    assert_eq!(cluster.client.all::<Pod>("n").len(), 3);
    cluster.run_pods().await;
    let status = sets.get("web").await.unwrap().status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(3), Some(3)));
    assert_eq!(status.observed_generation, made.metadata.generation);
    let writes = cluster.client.writes();
    cluster.settle().await;
    assert_eq!(cluster.client.writes(), writes, "a settled set writes nothing");

    sets.patch("web", tiphys_client::PatchKind::Merge, &json!({"spec": {"replicas": 1}})).await.unwrap();
    cluster.settle().await;
    cluster.run_pods().await;
    assert_eq!(cluster.client.all::<Pod>("n").len(), 1);
    assert!(cluster.events().iter().any(|event| event.starts_with("SuccessfulDelete: Deleted pod: web-")));
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_and_strangers_released() {
    let client = FakeClient::new();
    let pod = |name: &str, app: &str| -> Pod {
        typed(
            json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": app}}, "spec": {"containers": []}}),
        )
    };
    client.put(&pod("orphan", "web"));
    client.put(&pod("other", "api"));
    let cluster = Cluster::start(client);
    cluster.api::<ReplicaSet>("n").create(&set(1)).await.unwrap();
    cluster.settle().await;
    let owners = |name| cluster.client.find::<Pod>("n", name).unwrap().metadata.owner_references;
    assert_eq!(owners("orphan").unwrap()[0].name, "web");
    assert_eq!(owners("other"), None);
    assert_eq!(cluster.client.all::<Pod>("n").len(), 2);

    let relabel = json!({"metadata": {"labels": {"app": "debug"}}});
    cluster.api::<Pod>("n").patch("orphan", tiphys_client::PatchKind::Merge, &relabel).await.unwrap();
    cluster.settle().await;
    assert_eq!(owners("orphan"), None);
    assert_eq!(cluster.client.all::<Pod>("n").len(), 3, "a new pod takes its place");
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_does_the_same() {
    let client = FakeClient::new();
    let orphan = json!({"metadata": {"name": "orphan", "namespace": "n", "labels": {"app": "web"}},
        "spec": {"containers": []}});
    client.put::<Pod>(&typed(orphan));
    let cluster = Cluster::start(client.clone());
    let controllers = cluster.api::<ReplicationController>("n");
    let made = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {
        "replicas": 3, "selector": {"app": "web"}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    controllers.create(&typed(made)).await.unwrap();
    cluster.settle().await;
    cluster.run_pods().await;
    let owner = |pod: &Pod| pod.metadata.owner_references.as_ref().map(|owners| owners[0].kind.clone());
    let pods = client.all::<Pod>("n");
    assert!(pods.len() == 3 && pods.iter().all(|pod| owner(pod).as_deref() == Some("ReplicationController")));
    let status = controllers.get("web").await.unwrap().status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.observed_generation), (3, Some(3), Some(1)));
    let writes = client.writes();
    cluster.settle().await;
    assert_eq!(client.writes(), writes, "a settled one writes nothing");

    // One that matches no longer is let go and replaced.
    let relabel = json!({"metadata": {"labels": {"app": "debug"}}});
    cluster.api::<Pod>("n").patch("orphan", tiphys_client::PatchKind::Merge, &relabel).await.unwrap();
    cluster.settle().await;
    assert_eq!(client.find::<Pod>("n", "orphan").unwrap().metadata.owner_references, None);
    assert_eq!(client.all::<Pod>("n").len(), 4);

    // What admission refuses is shown as a condition, which goes once the size fits.
    client.fail(Box::new(|verb, target| {
        let pod = verb == "create" && target.gvr == Pod::GVR;
        pod.then(|| Status::forbidden(&Pod::GVR, "", "exceeded quota: pods"))
    }));
    let size = |n: i32| json!({"spec": {"replicas": n}});
    controllers.patch("web", tiphys_client::PatchKind::Merge, &size(5)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let condition = controllers.get("web").await.unwrap().status.unwrap().conditions.unwrap().remove(0);
    assert_eq!(
        (condition.type_.as_str(), condition.reason.unwrap().as_str()),
        ("ReplicaFailure", "FailedCreate")
    );
    controllers.patch("web", tiphys_client::PatchKind::Merge, &size(3)).await.unwrap();
    cluster.settle().await;
    assert_eq!(controllers.get("web").await.unwrap().status.unwrap().conditions, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_twice_while_events_are_late() {
    let client = FakeClient::new();
    let cluster = Cluster::start(client.clone());
    cluster.api::<ReplicaSet>("n").create(&set(4)).await.unwrap();
    cluster.settle().await;
    cluster.run_pods().await;
    client.hold_watches(true);
    let sets = cluster.api::<ReplicaSet>("n");
    client.remove(&Pod::GVR, "n", client.all::<Pod>("n")[0].name());
    client.hold_watches(false);
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.hold_watches(true);
    cluster.settle().await;
    // The replacement exists, the controller does not see it; the set is touched again and again.
    for i in 0..5 {
        let touch = json!({"metadata": {"annotations": {"touched": i.to_string()}}});
        sets.patch("web", tiphys_client::PatchKind::Merge, &touch).await.unwrap();
        cluster.settle().await;
    }
    assert_eq!(client.all::<Pod>("n").len(), 4);
    client.hold_watches(false);
    cluster.settle().await;
    assert_eq!(client.all::<Pod>("n").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refused_template_is_tried_little_and_told() {
    let client = FakeClient::new();
    client.fail(Box::new(|verb, target| {
        let pod = verb == "create" && target.gvr == Pod::GVR;
        pod.then(|| Status::forbidden(&Pod::GVR, "", "exceeded quota"))
    }));
    let cluster = Cluster::start(client);
    cluster.api::<ReplicaSet>("n").create(&set(100)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let status = cluster.api::<ReplicaSet>("n").get("web").await.unwrap().status.unwrap();
    let condition = &status.conditions.unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_deref()),
        ("ReplicaFailure", Some("FailedCreate"))
    );
    assert!(
        cluster.events()[0].starts_with("FailedCreate: Error creating: pods is forbidden: exceeded quota")
    );
}

proptest! {
    /// Whatever the pods look like: never more than asked for, never a deletion below it, never both at once.
    #[test]
    fn a_plan_leads_to_the_wanted_count(wanted in 0i32..40, kinds in proptest::collection::vec(0u8..4, 0..60)) {
        let pods: Vec<_> = kinds.iter().enumerate().map(|(i, kind)| match kind {
            0 => facts(&format!("p{i}"), "", None),
            1 => facts(&format!("p{i}"), "calm", None),
            2 => facts(&format!("p{i}"), "busy", Some(10)),
            _ => facts(&format!("p{i}"), "busy", Some(999_999)),
        }).collect();
        let plan = plan_of(&set(wanted), &pods, true);
        prop_assert_eq!(pods.len() + plan.create - plan.delete.len(), wanted as usize);
        prop_assert!(plan.create == 0 || plan.delete.is_empty());
        let unbound = pods.iter().filter(|pod| pod.node.is_empty()).count();
        let gone = plan.delete.iter().filter(|pod| pod.node.is_empty()).count();
        prop_assert!(gone == unbound.min(plan.delete.len()), "unbound pods go first");
    }
}
