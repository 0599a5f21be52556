//! ResourceQuotas: each kind of object is charged when it is made, and given back when it is gone.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{
    At, CONFIG_MAP, Kind, Objects, POD, REPLICA_SET, REPLICATION_CONTROLLER, RESOURCE_QUOTA, SECRET, SERVICE,
    refusal,
};

pub const CASES: Table = &[
    (
        &[
            "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly \
             calculated.",
            "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap.",
            "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set.",
            "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication \
             controller.",
            "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret.",
            "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service.",
        ],
        Run::Simulated(lives),
    ),
    (
        &["[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod."],
        Run::Simulated(life_of_a_pod),
    ),
    (
        &["[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota."],
        Run::Simulated(update_and_delete),
    ),
    (
        &["[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope."],
        Run::Simulated(best_effort),
    ),
    (
        &["[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes."],
        Run::Simulated(terminating),
    ),
];

/// A quota, once it is counted for the first time.
fn quota<'a>(objects: &'a Objects, name: &str, spec: &Value) -> Result<At<'a>> {
    let quota = objects.at(RESOURCE_QUOTA, name);
    quota.create(json!({"spec": spec}))?;
    quota.until("it is counted", |quota| quota["status"]["hard"] == spec["hard"])?;
    Ok(quota)
}

/// Waits until so much is used of what is named; what is not named is not looked at.
fn uses(quota: &At<'_>, wanted: &Value) -> Result<()> {
    let all = |quota: &Value| {
        let used = &quota["status"]["used"];
        wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(what, amount)| used[what] == *amount))
    };
    quota.until(&format!("{wanted} is used"), all).map(drop)
}

/// The charge is there with the object, and is given back after it.
fn lives(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    // One is there from the beginning: the cluster's CA.
    objects.at(CONFIG_MAP, "kube-root-ca.crt").until("it is there", |map| !map.is_null())?;
    let hard = json!({"configmaps": "3", "count/replicasets.apps": "1", "count/replicationcontrollers": "2",
        "replicationcontrollers": "2", "resourcequotas": "1", "secrets": "2", "services": "4",
        "services.nodeports": "1", "services.loadbalancers": "1"});
    let q = quota(&objects, "q", &json!({"hard": hard}))?;
    uses(
        &q,
        &json!({"configmaps": "1", "secrets": "0", "services": "0", "resourcequotas": "1",
        "replicationcontrollers": "0", "count/replicasets.apps": "0"}),
    )?;
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let controller = json!({"replicas": 0, "selector": {"a": "b"}, "template": template});
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 80}]}});
    let lives: [(Kind, Value, Value); 6] = [
        (CONFIG_MAP, json!({"data": {"a": "b"}}), json!({"configmaps": "2"})),
        (SECRET, json!({"stringData": {"a": "b"}}), json!({"secrets": "1"})),
        (SERVICE, service("ClusterIP"), json!({"services": "1", "services.nodeports": "0"})),
        (SERVICE, service("NodePort"), json!({"services": "1", "services.nodeports": "1"})),
        (REPLICA_SET, json!({"spec": set}), json!({"count/replicasets.apps": "1"})),
        (
            REPLICATION_CONTROLLER,
            json!({"spec": controller}),
            json!({"replicationcontrollers": "1", "count/replicationcontrollers": "1"}),
        ),
    ];
    for (kind, object, used) in lives {
        let before = q.get()?["status"]["used"].take();
        let one = objects.at(kind, "one");
        one.create(object)?;
        uses(&q, &used)?;
        one.delete(&json!({"propagationPolicy": "Background"}))?;
        one.gone()?;
        uses(&q, &before)?;
    }
    let one = json!({"spec": {"hard": {"pods": "1"}}});
    let refused = refusal(objects.at(RESOURCE_QUOTA, "two").create(one))?;
    ensure!(refused.code == 403 && refused.message.contains("exceeded quota: q"), "{refused:?}");
    Ok(())
}

/// A pod with these requests, and with what else is in its spec.
fn pod(resources: &Value, more: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "example/web:1", "resources": resources}], "terminationGracePeriodSeconds": 0});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

fn life_of_a_pod(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let extended = "requests.example.com/dongle";
    let hard =
        json!({"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi", extended: "3"});
    let q = quota(&objects, "q", &json!({"hard": hard}))?;
    let none = json!({"pods": "0", "cpu": "0", "memory": "0", "ephemeral-storage": "0", extended: "0"});
    uses(&q, &none)?;
    let requests = |cpu: &str, dongles: &str| {
        json!({"requests": {"cpu": cpu, "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": dongles},
            "limits": {"example.com/dongle": dongles}})
    };
    let first = objects.at(POD, "first");
    first.create(pod(&requests("500m", "2"), &json!({})))?;
    let used =
        json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", extended: "2"});
    uses(&q, &used)?;
    for (cpu, dongles, what) in [("600m", "1", "cpu"), ("100m", "2", extended)] {
        let refused = refusal(objects.at(POD, "second").create(pod(&requests(cpu, dongles), &json!({}))))?;
        let named = refused.message.contains("exceeded quota: q") && refused.message.contains(what);
        ensure!(refused.code == 403 && named, "{refused:?}");
    }
    let more = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]}});
    let refused = refusal(first.patch(&more))?;
    ensure!(refused.code == 422 && refused.message.contains("Forbidden"), "{refused:?}");
    uses(&q, &used)?;
    first.delete(&json!({}))?;
    first.gone()?;
    uses(&q, &none)
}

fn update_and_delete(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let q = quota(&objects, "q", &json!({"hard": {"cpu": "1", "memory": "500Mi"}}))?;
    let found = q.get()?["spec"]["hard"].take();
    ensure!(found == json!({"cpu": "1", "memory": "500Mi"}), "{found}");
    let more = json!({"cpu": "2", "memory": "1Gi"});
    q.update(|q| q["spec"]["hard"] = more.clone())?;
    ensure!(q.get()?["spec"]["hard"] == more);
    q.until("the update is counted", |q| q["status"]["hard"] == more)?;
    q.delete(&json!({}))?;
    ensure!(refusal(q.get())?.code == 404);
    Ok(())
}

/// Makes a pod and deletes it: one quota is charged, the other is not.
fn charges(objects: &Objects, pod: &Value, one: (&At<'_>, Value), other: (&At<'_>, &Value)) -> Result<()> {
    let (charged, used) = one;
    let none = charged.get()?["status"]["used"].take();
    let made = objects.at(POD, "pod");
    made.create(pod.clone())?;
    uses(charged, &used)?;
    uses(other.0, other.1)?;
    made.delete(&json!({}))?;
    made.gone()?;
    uses(charged, &none)
}

fn best_effort(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let best = quota(&objects, "best", &json!({"hard": {"pods": "5"}, "scopes": ["BestEffort"]}))?;
    let rest = quota(&objects, "rest", &json!({"hard": {"pods": "5"}, "scopes": ["NotBestEffort"]}))?;
    let (none, one) = (json!({"pods": "0"}), json!({"pods": "1"}));
    uses(&best, &none)?;
    uses(&rest, &none)?;
    charges(&objects, &pod(&json!({}), &json!({})), (&best, one.clone()), (&rest, &none))?;
    let resources =
        json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}});
    charges(&objects, &pod(&resources, &json!({})), (&rest, one), (&best, &none))
}

fn terminating(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hard = json!({"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2",
        "limits.memory": "1Gi"});
    let ends = quota(&objects, "ends", &json!({"hard": hard, "scopes": ["Terminating"]}))?;
    let lasts = quota(&objects, "lasts", &json!({"hard": hard, "scopes": ["NotTerminating"]}))?;
    let none = json!({"pods": "0", "requests.cpu": "0", "limits.memory": "0"});
    uses(&ends, &none)?;
    uses(&lasts, &none)?;
    let resources =
        json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}});
    let used = json!({"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1",
        "limits.memory": "400Mi"});
    let lasting = pod(&resources, &json!({}));
    charges(&objects, &lasting, (&lasts, used.clone()), (&ends, &none))?;
    let ending = pod(&resources, &json!({"activeDeadlineSeconds": 3600}));
    charges(&objects, &ending, (&ends, used), (&lasts, &none))
}
