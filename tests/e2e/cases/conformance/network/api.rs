//! What the API says of Services, their endpoints and Ingresses. Pods are simulated: nothing is sent.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::super::Run;
use super::Table;
use crate::harness::Namespace;
use crate::objects::{At, INGRESS_CLASS, Kind, NAMESPACE, Objects, POD, SERVICE, names};

/// Cases without containers.
pub const CASES: Table = &[
    (&["[sig-network] Services should complete a service status lifecycle"], Run::Simulated(status)),
    (&["[sig-network] Services should delete a collection of services"], Run::Simulated(collection)),
    (
        &[
            "[sig-network] Services should find a service from listing all namespaces",
            "[sig-network] Services should provide secure master service",
            "[sig-network] EndpointSlice should have Endpoints and EndpointSlices pointing to API Server",
        ],
        Run::Simulated(master),
    ),
    (
        &[
            "[sig-network] Services should serve a basic endpoint from pods",
            "[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service",
            "[sig-network] EndpointSlice should create and delete Endpoints and EndpointSlices for a Service with a selector specified",
        ],
        Run::Simulated(basic),
    ),
    (&["[sig-network] Services should serve multiport endpoints from pods"], Run::Simulated(multiport)),
    (&["[sig-network] Services should test the lifecycle of an Endpoint"], Run::Simulated(endpoints)),
    (
        &[
            "[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete",
        ],
        Run::Simulated(mirror),
    ),
    (
        &["[sig-network] EndpointSlice should support creating EndpointSlice API operations"],
        Run::Simulated(slices),
    ),
    (
        &["[sig-network] Ingress API should support creating Ingress API operations"],
        Run::Simulated(ingresses),
    ),
    (
        &["[sig-network] IngressClass API  should support creating IngressClass API operations"],
        Run::Simulated(classes),
    ),
    (&["[sig-network] Service endpoints latency should not be very high"], Run::Simulated(latency)),
];

const ENDPOINTS: Kind = Kind::new("v1", "Endpoints", "endpoints");
const ENDPOINT_SLICE: Kind = Kind::new("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
const INGRESS: Kind = Kind::new("networking.k8s.io/v1", "Ingress", "ingresses");

fn web() -> Value {
    json!({"metadata": {"labels": {"test": "web"}}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
}

fn pod(app: &str, ports: &Value) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"terminationGracePeriodSeconds": 0,
        "nodeSelector": {"tiphys.io/simulated": "true"}, "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "none", "ports": ports}]}})
}

fn status(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let service = objects.at(SERVICE, "web");
    let mut new = web();
    new["spec"]["type"] = "LoadBalancer".into();
    // No built-in balancer shall say anything in between.
    new["spec"]["loadBalancerClass"] = "example.com/none".into();
    service.create(new)?;
    let part = service.sub("status");
    ensure!(part.get()?["status"]["loadBalancer"] == json!({}), "{}", part.get()?);
    let point = json!({"ip": "203.0.113.1", "ipMode": "VIP"});
    let patched = part.merge(&json!({"metadata": {"annotations": {"patched": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}))?;
    ensure!(patched["status"]["loadBalancer"]["ingress"] == json!([point]), "{patched}");
    let condition = json!({"type": "Updated", "status": "True", "reason": "E2E", "message": "Set",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let updated = part.update(|service| service["status"]["conditions"] = json!([condition]))?;
    ensure!(updated["status"]["conditions"][0]["type"] == "Updated", "{updated}");
    let patched = service.patch(&json!({"metadata": {"labels": {"more": "true"}}}))?;
    ensure!(
        patched["metadata"]["labels"]["more"] == "true" && patched["status"] == updated["status"],
        "{patched}"
    );
    service.delete(&Value::Null)?;
    service.gone()
}

fn collection(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    for name in ["one", "two", "three"] {
        objects.at(SERVICE, name).create(web())?;
    }
    objects.at(SERVICE, "three").merge(&json!({"metadata": {"labels": {"test": "other"}}}))?;
    ensure!(objects.items(SERVICE, "")?.len() == 3, "three Services were made");
    objects.delete_all(SERVICE, "labelSelector=test=web")?;
    let left = objects.until(SERVICE, "", "one is left", |items| items.len() == 1)?;
    ensure!(names(&left) == ["three"], "{left:?}");
    Ok(())
}

fn master(ns: &Namespace<'_>) -> Result<()> {
    let everywhere = Objects::of(ns)?.within("");
    let services = everywhere.items(SERVICE, "fieldSelector=metadata.name=kubernetes")?;
    let service =
        services.iter().find(|s| s["metadata"]["namespace"] == "default").context("no master Service")?;
    ensure!(
        service["spec"]["ports"][0]["name"] == "https" && service["spec"]["ports"][0]["port"] == 443,
        "{service}"
    );
    let default = everywhere.within("default");
    let endpoints = default.at(ENDPOINTS, "kubernetes").get()?;
    let slices = default.items(ENDPOINT_SLICE, "labelSelector=kubernetes.io/service-name=kubernetes")?;
    let address = &endpoints["subsets"][0]["addresses"][0]["ip"];
    ensure!(
        address.is_string() && slices.iter().any(|s| s["endpoints"][0]["addresses"][0] == *address),
        "{slices:?}"
    );
    Ok(())
}

/// Addresses, with their ports by name, of a Service's ready endpoints.
fn known(slices: &[Value]) -> Vec<(String, Vec<(String, u64)>)> {
    let mut known = Vec::new();
    for slice in slices {
        let port = |port: &Value| Some((port["name"].as_str()?.to_owned(), port["port"].as_u64()?));
        let ports: Vec<_> = slice["ports"].as_array().into_iter().flatten().filter_map(port).collect();
        let ready =
            slice["endpoints"].as_array().into_iter().flatten().filter(|e| e["conditions"]["ready"] == true);
        known
            .extend(ready.filter_map(|e| Some((e["targetRef"]["name"].as_str()?.to_owned(), ports.clone()))));
    }
    known.sort();
    known
}

/// Waits until the Service's slices hold these pods, each with these ports.
fn expect(objects: &Objects, service: &str, wanted: &[(&str, &[(&str, u64)])]) -> Result<()> {
    let own = |(pod, ports): &(&str, &[(&str, u64)])| {
        ((*pod).to_owned(), ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect::<Vec<_>>())
    };
    let wanted: Vec<_> = wanted.iter().map(own).collect();
    let query = format!("labelSelector=kubernetes.io/service-name={service}");
    objects.until(ENDPOINT_SLICE, &query, &format!("{wanted:?}"), |slices| known(slices) == wanted)?;
    let legacy = |endpoints: &Value| -> usize {
        let subsets = endpoints["subsets"].as_array().into_iter().flatten();
        subsets.map(|s| s["addresses"].as_array().map_or(0, Vec::len)).sum()
    };
    let at = objects.at(ENDPOINTS, service);
    at.until("Endpoints agree", |endpoints| legacy(endpoints) == wanted.len() && endpoints.is_object())
        .map(drop)
}

fn basic(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    objects.get("/apis/discovery.k8s.io/v1")?;
    objects.at(SERVICE, "web").create(web())?;
    expect(&objects, "web", &[])?;
    let port: (&str, &[(&str, u64)]) = ("", &[("", 80)]);
    for name in ["one", "two"] {
        objects.at(POD, name).create(pod("web", &json!([{"containerPort": 80}])))?;
    }
    expect(&objects, "web", &[("one", port.1), ("two", port.1)])?;
    objects.at(POD, "one").delete(&Value::Null)?;
    expect(&objects, "web", &[("two", port.1)])?;
    objects.at(POD, "two").delete(&Value::Null)?;
    expect(&objects, "web", &[])?;
    objects.at(SERVICE, "web").delete(&Value::Null)?;
    let query = "labelSelector=kubernetes.io/service-name=web";
    objects.until(ENDPOINT_SLICE, query, "they go with their Service", |slices| slices.is_empty())?;
    objects.at(ENDPOINTS, "web").gone()
}

fn multiport(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    objects.at(SERVICE, "many").create(json!({"spec": {"selector": {"app": "web"}, "ports": [
        {"name": "first", "port": 80, "targetPort": "one"}, {"name": "second", "port": 81, "targetPort": "two"}]}}))?;
    expect(&objects, "many", &[])?;
    objects.at(POD, "one").create(pod("web", &json!([{"name": "one", "containerPort": 100}])))?;
    expect(&objects, "many", &[("one", &[("first", 100)])])?;
    objects.at(POD, "two").create(pod("web", &json!([{"name": "two", "containerPort": 101}])))?;
    expect(&objects, "many", &[("one", &[("first", 100)]), ("two", &[("second", 101)])])?;
    objects.at(POD, "one").delete(&Value::Null)?;
    expect(&objects, "many", &[("two", &[("second", 101)])])?;
    objects.at(POD, "two").delete(&Value::Null)?;
    expect(&objects, "many", &[])
}

fn endpoints(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut watch = objects.watch(ENDPOINTS, "labelSelector=test-endpoint-static=true")?;
    let at = objects.at(ENDPOINTS, "static");
    at.create(json!({"metadata": {"labels": {"test-endpoint-static": "true"}}, "subsets": [
        {"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]}))?;
    watch.expect("ADDED", "static")?;
    at.update(|endpoints| endpoints["metadata"]["labels"]["test-service"] = "updated".into())?;
    let updated = watch.expect("MODIFIED", "static")?;
    ensure!(updated["metadata"]["labels"]["test-service"] == "updated", "{updated}");
    at.merge(&json!({"metadata": {"labels": {"test-service": "patched"}}, "subsets": [
        {"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080, "protocol": "TCP"}]}]}))?;
    let patched = watch.expect("MODIFIED", "static")?;
    ensure!(
        patched["subsets"][0]["addresses"][0]["ip"] == "10.0.0.25"
            && patched["subsets"][0]["ports"][0]["port"] == 8080,
        "{patched}"
    );
    objects.delete_all(ENDPOINTS, "labelSelector=test-endpoint-static=true")?;
    watch.expect("DELETED", "static").map(drop)
}

fn mirror(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    objects.at(SERVICE, "custom").create(json!({"spec": {"ports": [{"name": "p", "port": 80}]}}))?;
    let at = objects.at(ENDPOINTS, "custom");
    let subset =
        |ip: &str, port: u16| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "p", "port": port}]}]);
    let mirrored = |what: &str, ip: Option<&str>, port: u16| {
        objects.until(ENDPOINT_SLICE, "labelSelector=kubernetes.io/service-name=custom", what, |slices| {
            match ip {
                None => slices.is_empty(),
                Some(ip) => {
                    let holds =
                        |s: &Value| s["endpoints"][0]["addresses"][0] == ip && s["ports"][0]["port"] == port;
                    matches!(slices, [one] if holds(one))
                }
            }
        })
    };
    at.create(json!({"subsets": subset("10.1.2.3", 80)}))?;
    mirrored("it is mirrored", Some("10.1.2.3"), 80)?;
    at.update(|endpoints| endpoints["subsets"] = subset("10.2.3.4", 9090))?;
    mirrored("the update is mirrored", Some("10.2.3.4"), 9090)?;
    at.delete(&Value::Null)?;
    mirrored("the deletion is mirrored", None, 0).map(drop)
}

/// Every operation on one kind: on an object of this name, and on all that are labelled `special`.
fn operations(objects: &Objects, kind: Kind, at: &At<'_>, new: &Value) -> Result<()> {
    const SPECIAL: &str = "labelSelector=special=e2e";
    let labelled = || {
        let mut object = new.clone();
        object["metadata"]["labels"] = json!({"special": "e2e"});
        object
    };
    let mut watch = objects.watch(kind, SPECIAL)?;
    let made = at.create(labelled())?;
    let name = made["metadata"]["name"].as_str().context("no name")?;
    ensure!(names(&objects.items(kind, SPECIAL)?) == [name], "it is not listed");
    watch.expect("ADDED", name)?;
    let patched = at.merge(&json!({"metadata": {"annotations": {"patched": "true"}}}))?;
    ensure!(patched["metadata"]["annotations"]["patched"] == "true", "{patched}");
    watch.expect("MODIFIED", name)?;
    at.update(|object| object["metadata"]["annotations"]["updated"] = "true".into())?;
    let seen = watch.expect("MODIFIED", name)?;
    ensure!(seen["metadata"]["annotations"]["updated"] == "true", "{seen}");
    at.delete(&Value::Null)?;
    watch.expect("DELETED", name)?;
    ensure!(at.get().is_err(), "it is still there");
    for i in 0..3 {
        let mut object = labelled();
        object["metadata"]["name"] = format!("{name}-{i}").into();
        objects.create(kind, object)?;
    }
    objects.delete_all(kind, SPECIAL)?;
    objects.until(kind, SPECIAL, "all are gone", |items| items.is_empty()).map(drop)
}

fn slices(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    objects.get("/apis/discovery.k8s.io/v1")?;
    let new =
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80}]});
    operations(&objects, ENDPOINT_SLICE, &objects.at(ENDPOINT_SLICE, "slice"), &new)
}

fn ingresses(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    objects.get("/apis/networking.k8s.io/v1")?;
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let new = json!({"spec": {"defaultBackend": backend, "rules": [{"host": "a.example.com", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": backend}]}}]}});
    operations(&objects, INGRESS, &objects.at(INGRESS, "ingress"), &new)?;
    let at = objects.at(INGRESS, "told");
    at.create(new)?;
    let part = at.sub("status");
    let patched = part.merge(&json!({"status": {"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}}))?;
    ensure!(patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "169.1.1.1", "{patched}");
    let updated = part
        .update(|ingress| ingress["status"] = json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.2"}]}}))?;
    ensure!(updated["status"]["loadBalancer"]["ingress"][0]["ip"] == "169.1.1.2", "{updated}");
    ensure!(part.get()?["status"] == updated["status"], "it was not kept");
    Ok(())
}

fn classes(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    objects.get("/apis/networking.k8s.io/v1")?;
    let new = json!({"spec": {"controller": "example.com/controller"}});
    operations(&objects, INGRESS_CLASS, &objects.at(INGRESS_CLASS, &ns.name), &new)
}

fn latency(ns: &Namespace<'_>) -> Result<()> {
    const SERVICES: usize = 100;
    let objects = Objects::of(ns)?;
    ensure!(
        objects.at(NAMESPACE, &ns.name).get()?["status"]["phase"] == "Active",
        "the namespace is not ready"
    );
    objects.at(POD, "web").create(pod("web", &json!([{"containerPort": 80}])))?;
    objects.at(SERVICE, "first").create(web())?;
    let filled =
        |slices: &[Value]| slices.iter().filter(|s| s["endpoints"][0]["conditions"]["ready"] == true).count();
    objects.until(ENDPOINT_SLICE, "", "the pod is an endpoint", |slices| filled(slices) == 1)?;
    for i in 0..SERVICES {
        objects.at(SERVICE, &format!("web-{i}")).create(web())?;
    }
    // The programme allows 20 s for half of them; a wait ends in error long before 100 of them could take 50 s each.
    objects
        .until(ENDPOINT_SLICE, "", "every Service has its endpoint", |slices| filled(slices) == SERVICES + 1)
        .map(drop)
}
