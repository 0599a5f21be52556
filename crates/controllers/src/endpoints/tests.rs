use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;

use super::*;
use crate::pods::Facts;
use crate::testing::{Cluster, typed};

fn service() -> Service {
    typed(
        json!({"metadata": {"name": "web", "namespace": "n", "uid": "svc", "labels": {"team": "a"}}, "spec": {
        "selector": {"app": "web"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}, {"name": "raw", "port": 81}]}}),
    )
}

fn pod_value(name: &str, ip: &str, ready: bool) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions":
            [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn pods(range: std::ops::Range<usize>) -> Vec<Arc<Facts>> {
    let pod = |i: usize| {
        let value = pod_value(&format!("p{i}"), &format!("10.0.{}.{}", i / 250, i % 250), true);
        Arc::new(Facts::of(&Object::from_value(&value).unwrap()).unwrap())
    };
    range.map(pod).collect()
}

/// Applies a plan as the API server would.
fn apply(mut slices: Vec<EndpointSlice>, plan: slices::Plan) -> Vec<EndpointSlice> {
    let named = |list: &[EndpointSlice], name: &str| list.iter().any(|s| s.name() == name);
    slices.retain(|s| !named(&plan.delete, s.name()) && !named(&plan.update, s.name()));
    slices.extend(plan.update);
    for (i, mut slice) in plan.create.into_iter().enumerate() {
        slice.metadata.name = Some(format!("made-{}-{i}", slices.len()));
        slices.push(slice);
    }
    slices
}

fn plan_for(pods: &[Arc<Facts>], existing: Vec<EndpointSlice>) -> slices::Plan {
    slices::plan(&service(), view::groups(&service(), pods, |_| None), existing)
}

#[test]
fn slices_hold_a_hundred_and_change_little() {
    let first = apply(Vec::new(), plan_for(&pods(0..250), Vec::new()));
    let mut sizes: Vec<_> = first.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    assert_eq!(plan_for(&pods(0..250), first.clone()), slices::Plan::default());
    // One pod goes, two come: at most the slice that lost one and the one with room are written.
    let plan = plan_for(&pods(1..252), first.clone());
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    assert!(plan.update.len() <= 2);
    let second = apply(first, plan);
    assert_eq!(second.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).sum::<usize>(), 251);
    // All go: one slice stays, to say so.
    let last = apply(second.clone(), plan_for(&[], second));
    assert_eq!(last.len(), 1);
    assert!(last[0].endpoints.as_ref().unwrap().is_empty());
}

#[test]
fn named_ports_are_those_of_the_pod() {
    let groups = view::groups(&service(), &pods(0..1), |_| Some("zone-a".into()));
    let ports: Vec<_> = groups[0].ports.iter().map(|p| (p.name.as_deref(), p.port)).collect();
    assert_eq!(ports, [(Some("http"), Some(8080)), (Some("raw"), Some(81))]);
    assert_eq!(groups[0].endpoints[0].zone.as_deref(), Some("zone-a"));
}

#[test]
fn ready_endpoints_are_for_the_zone_or_node_that_the_service_prefers() {
    let hints = |wish: &str, pods: &[Arc<Facts>]| {
        let mut service = service();
        service.spec.as_mut().unwrap().traffic_distribution = Some(wish.into());
        view::groups(&service, pods, |_| Some("zone-a".into()))[0].endpoints[0].hints.clone()
    };
    let node = pods(0..1)[0].node.to_string();
    let zone = hints("PreferSameZone", &pods(0..1)).unwrap();
    assert_eq!(zone.for_zones.as_ref().unwrap()[0].name, "zone-a");
    assert_eq!((hints("PreferClose", &pods(0..1)), zone.for_nodes.clone()), (Some(zone.clone()), None));
    let near = hints("PreferSameNode", &pods(0..1)).unwrap();
    assert_eq!((near.for_nodes.unwrap()[0].name.clone(), near.for_zones), (node, zone.for_zones));
    assert_eq!(hints("", &pods(0..1)), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_follows_its_pods() {
    let client = FakeClient::new();
    client.put(&service());
    let pod_gvr = k8s_openapi::api::core::v1::Pod::GVR;
    client.put_value(&pod_gvr, &pod_value("a", "10.0.0.1", true));
    client.put_value(&pod_gvr, &pod_value("b", "10.0.0.2", false));
    let cluster = Cluster::start(client.clone());
    cluster.settle().await;
    let slice = client.all::<EndpointSlice>("n").remove(0);
    let labels = slice.metadata.labels.unwrap();
    assert_eq!((labels["kubernetes.io/service-name"].as_str(), labels["team"].as_str()), ("web", "a"));
    let ready = |slice: &EndpointSlice| -> Vec<_> {
        let conditions = slice.endpoints.iter().flatten().map(|e| e.conditions.clone().unwrap());
        conditions.map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())).collect()
    };
    let slice = client.all::<EndpointSlice>("n").remove(0);
    assert_eq!(ready(&slice), [(true, true, false), (false, false, false)]);
    let subset = client.find::<Endpoints>("n", "web").unwrap().subsets.unwrap().remove(0);
    assert_eq!((subset.addresses.unwrap().len(), subset.not_ready_addresses.unwrap().len()), (1, 1));

    // A ready pod under deletion serves, but is not ready for new connections.
    cluster.api::<k8s_openapi::api::core::v1::Pod>("n").delete("a", &DeleteOptions::default()).await.unwrap();
    cluster.settle().await;
    let slice = client.all::<EndpointSlice>("n").remove(0);
    assert_eq!(ready(&slice), [(false, true, true), (false, false, false)]);
    let writes = client.writes();
    cluster.settle().await;
    assert_eq!(client.writes(), writes);

    client.remove(&Service::GVR, "n", "web");
    cluster.settle().await;
    assert!(client.find::<Endpoints>("n", "web").is_none());
}
