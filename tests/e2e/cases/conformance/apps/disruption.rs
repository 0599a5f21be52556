//! PodDisruptionBudgets and evictions.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{count, create, keeps_status, observed, running};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{At, Objects, POD, POD_DISRUPTION_BUDGET as BUDGET, REPLICA_SET, names, refusal};

pub const CASES: Table = &[
    (
        &[
            "[sig-apps] DisruptionController should create a PodDisruptionBudget",
            "[sig-apps] DisruptionController should observe PodDisruptionBudget status updated",
            "[sig-apps] DisruptionController should update/patch PodDisruptionBudget status",
            "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a \
             collection of PodDisruptionBudgets",
        ],
        Run::Simulated(budgets),
    ),
    (
        &["[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it"],
        Run::Simulated(evictions),
    ),
];

fn budget<'a>(objects: &'a Objects, name: &str, min_available: u32) -> Result<At<'a>> {
    let budget = objects.at(BUDGET, name);
    let spec = json!({"minAvailable": min_available, "selector": {"matchLabels": {"app": "web"}}});
    budget.create(json!({"metadata": {"labels": {"app": name}}, "spec": spec}))?;
    Ok(budget)
}

fn budgets(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    create(&objects, REPLICA_SET, "web", &json!({"replicas": 3}))?;
    running(&objects, "web", 3)?;
    let web = budget(&objects, "web", 2)?;
    let seen = web.until("it is counted", |web| observed(web) && count(web, "disruptionsAllowed") == 1)?;
    let counted = ["currentHealthy", "desiredHealthy", "expectedPods"].map(|field| count(&seen, field));
    ensure!(counted == [3, 2, 3], "{seen}");
    web.update(|web| web["spec"]["minAvailable"] = "100%".into())?;
    web.until("the update is counted", |web| observed(web) && count(web, "disruptionsAllowed") == 0)?;
    web.patch(&json!({"spec": {"minAvailable": 1}}))?;
    web.until("the patch is counted", |web| observed(web) && count(web, "disruptionsAllowed") == 2)?;
    keeps_status(&web)?;
    let other = budget(&objects, "other", 1)?;
    other.delete(&Value::Null)?;
    other.gone()?;
    super::collection(&objects, BUDGET, "web")
}

fn evict(pod: &At<'_>, name: &str) -> Result<Value> {
    pod.sub("eviction")
        .post(&json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}))
}

fn evictions(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    create(&objects, REPLICA_SET, "web", &json!({"replicas": 3}))?;
    let pods = running(&objects, "web", 3)?;
    let (first, second) = (names(&pods)[0], names(&pods)[1]);
    let web = budget(&objects, "web", 3)?;
    web.until("it is counted", |web| count(web, "currentHealthy") == 3)?;
    let pod = objects.at(POD, first);
    let refused = refusal(evict(&pod, first))?;
    ensure!(refused.code == 429, "{refused:?}");
    ensure!(
        refused.message == "Cannot evict pod as it would violate the pod's disruption budget.",
        "{refused:?}"
    );
    web.merge(&json!({"spec": {"minAvailable": 2}}))?;
    web.until("it allows one", |web| observed(web) && count(web, "disruptionsAllowed") == 1)?;
    evict(&pod, first)?;
    pod.gone()?;
    // What has no pod to stand in for it is protected anew.
    running(&objects, "web", 3)?;
    web.merge(&json!({"spec": {"minAvailable": 3}}))?;
    web.until("it allows none", |web| observed(web) && count(web, "disruptionsAllowed") == 0)?;
    ensure!(refusal(evict(&objects.at(POD, second), second))?.code == 429);
    web.delete(&Value::Null)?;
    web.gone()?;
    evict(&objects.at(POD, second), second)?;
    objects.at(POD, second).gone()
}
