//! `[sig-scheduling]`: which node takes a pod, and what limits and priorities say before that.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Run, Table};
use crate::harness::Namespace;
use crate::objects::{EVENT, Kind, NODE, Objects, POD, refusal};

pub const AREA: &[Table] = &[CASES];

const CASES: Table = &[
    (
        &[
            "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied.",
        ],
        Run::Simulated(limits),
    ),
    (
        &[
            "[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be \
             operated with different HTTP methods",
        ],
        Run::Simulated(priorities),
    ),
    (
        &[
            "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run",
        ],
        Run::Simulated(resources),
    ),
    (
        &[
            "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching",
            "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching",
        ],
        Run::Simulated(selectors),
    ),
    (
        &[
            "[sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same \
             hostPort and protocol but one using 0.0.0.0 hostIP",
        ],
        Run::Simulated(host_ports),
    ),
];

const LIMIT_RANGE: Kind = Kind::new("v1", "LimitRange", "limitranges");
const PRIORITY_CLASS: Kind = Kind::new("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses").cluster();

fn pod(container: Value, more: Value) -> Value {
    let mut spec = more;
    let mut container = container;
    container["name"] = "c".into();
    container["image"] = "example/web:1".into();
    spec["containers"] = json!([container]);
    spec["terminationGracePeriodSeconds"] = 0.into();
    json!({"spec": spec})
}

/// Waits until a pod has a node, and tells which.
fn scheduled(objects: &Objects, name: &str) -> Result<String> {
    let pod = objects.at(POD, name).until("it has a node", |pod| pod["spec"]["nodeName"].is_string())?;
    Ok(pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the scheduler says that no node takes a pod.
fn refused(objects: &Objects, name: &str) -> Result<()> {
    let query = format!("fieldSelector=involvedObject.name={name},reason=FailedScheduling");
    objects.until(EVENT, &query, "no node takes it", |events| !events.is_empty())?;
    let pod = objects.at(POD, name).get()?;
    ensure!(pod["spec"]["nodeName"].is_null(), "{pod}");
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    ensure!(
        conditions.iter().any(|c| c["type"] == "PodScheduled" && c["reason"] == "Unschedulable"),
        "{pod}"
    );
    Ok(())
}

fn limits(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let range = objects.at(LIMIT_RANGE, "range");
    let amounts = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let limit = |max: &str| {
        json!({"type": "Container", "min": amounts("50m", "100Mi"), "max": amounts(max, "500Mi"),
            "default": amounts("200m", "400Mi"), "defaultRequest": amounts("100m", "200Mi")})
    };
    let mut changes = objects.watch(LIMIT_RANGE, "")?;
    range.create(json!({"spec": {"limits": [limit("500m")]}}))?;
    let made = changes.expect("ADDED", "range")?;
    ensure!(made["spec"]["limits"][0] == limit("500m"), "{made}");

    let resources = |name: &str, container: Value| -> Result<Value> {
        let made = objects.at(POD, name).create(pod(container, json!({})))?;
        Ok(made["spec"]["containers"][0]["resources"].clone())
    };
    let given = resources("none", json!({}))?;
    ensure!(
        given == json!({"limits": amounts("200m", "400Mi"), "requests": amounts("100m", "200Mi")}),
        "{given}"
    );
    let given = resources("some", json!({"resources": {"limits": {"cpu": "300m"}}}))?;
    let wanted = json!({"limits": amounts("300m", "400Mi"), "requests": amounts("300m", "200Mi")});
    ensure!(given == wanted, "{given}");
    for (name, amounts) in [("below", amounts("10m", "200Mi")), ("above", amounts("600m", "200Mi"))] {
        let container = json!({"resources": {"requests": amounts, "limits": amounts}});
        let refused = refusal(objects.at(POD, name).create(pod(container, json!({}))))?;
        ensure!(refused.code == 403 && refused.message.contains("Container is"), "{refused:?}");
    }
    range.update(|range| range["spec"]["limits"][0]["max"]["cpu"] = "700m".into())?;
    let container =
        json!({"resources": {"requests": amounts("600m", "200Mi"), "limits": amounts("600m", "200Mi")}});
    objects.at(POD, "above").create(pod(container, json!({})))?;
    range.delete(&Value::Null)?;
    range.gone()?;
    ensure!(resources("free", json!({}))? == json!({}));
    Ok(())
}

fn priorities(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let (name, other) = (format!("{}-p1", ns.name), format!("{}-p2", ns.name));
    for (name, value) in [(&name, 1), (&other, 2)] {
        objects
            .at(PRIORITY_CLASS, name)
            .create(json!({"metadata": {"labels": {"case": ns.name}}, "value": value}))?;
    }
    let query = format!("labelSelector=case%3D{}", ns.name);
    ensure!(objects.items(PRIORITY_CLASS, &query)?.len() == 2);
    let class = objects.at(PRIORITY_CLASS, &name);
    let changed = class.merge(&json!({"description": "patched", "metadata": {"annotations": {"a": "b"}}}))?;
    ensure!(changed["description"] == "patched" && changed["value"] == 1, "{changed}");
    let changed = class.update(|class| class["description"] = "updated".into())?;
    ensure!(changed["description"] == "updated", "{changed}");
    let refused = refusal(class.merge(&json!({"value": 5})))?;
    ensure!(refused.reason == "Invalid", "{refused:?}");
    let refused = refusal(class.update(|class| class["value"] = 5.into()))?;
    ensure!(refused.reason == "Invalid", "{refused:?}");
    objects.delete_all(PRIORITY_CLASS, &query)?;
    objects.until(PRIORITY_CLASS, &query, "all are gone", <[Value]>::is_empty).map(drop)
}

fn resources(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let resource = format!("example.com/{}", &ns.name[ns.name.len() - 8..]);
    let amounts = json!({ &resource: "2" });
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
    objects.at(NODE, "sim-0").sub("status").merge(&status)?;
    let asks = |amount: &str| {
        let amounts = json!({ &resource: amount });
        pod(json!({"resources": {"requests": amounts, "limits": amounts}}), json!({}))
    };
    objects.at(POD, "first").create(asks("1"))?;
    objects.at(POD, "second").create(asks("1"))?;
    for name in ["first", "second"] {
        ensure!(scheduled(&objects, name)? == "sim-0");
    }
    objects.at(POD, "third").create(asks("1"))?;
    refused(&objects, "third")?;
    objects.at(POD, "first").delete(&Value::Null)?;
    ensure!(scheduled(&objects, "third")? == "sim-0", "there is room again");
    let huge = json!({"resources": {"requests": {"memory": "100Ti"}}});
    objects.at(POD, "huge").create(pod(huge, json!({})))?;
    refused(&objects, "huge")
}

fn selectors(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let key = format!("case.example/{}", &ns.name[ns.name.len() - 8..]);
    objects.at(NODE, "sim-1").merge(&json!({"metadata": {"labels": {&key: "42"}}}))?;
    let selects = |value: &str| pod(json!({}), json!({"nodeSelector": {&key: value}}));
    objects.at(POD, "matching").create(selects("42"))?;
    ensure!(scheduled(&objects, "matching")? == "sim-1");
    objects.at(POD, "other").create(selects("43"))?;
    refused(&objects, "other")?;
    objects.at(NODE, "sim-1").merge(&json!({"metadata": {"labels": {&key: null}}})).map(drop)
}

fn host_ports(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let here = json!({"nodeSelector": {"kubernetes.io/hostname": "sim-2"}});
    let port =
        |address: &str| json!({"ports": [{"containerPort": 80, "hostPort": 54_322, "hostIP": address}]});
    objects.at(POD, "all").create(pod(port("0.0.0.0"), here.clone()))?;
    ensure!(scheduled(&objects, "all")? == "sim-2");
    objects.at(POD, "one").create(pod(port("127.0.0.1"), here))?;
    refused(&objects, "one")
}
