//! `pods/eviction`: a deletion that asks the pod's disruption budget first.
//!
//! A pod for which nothing was taken from a budget (it does not run, is not ready, or no budget selects it) goes only as
//! it was judged: one that another write made ready meanwhile is judged anew.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tiphys_api::selector::LabelSelector;
use tiphys_api::status::{Cause, Details};
use tiphys_api::{Gvk, Gvr, Object, Status, Value, json};

use super::super::request::{Body, DeleteParams, Propagation, Request, WriteParams, Written};
use super::super::{Registry, decode, tree};
use crate::auth::Lister;

const EVICTION: Gvk = Gvk::new("policy", "v1", "Eviction");
const BUDGETS: Gvr = Gvr::new("policy", "v1", "poddisruptionbudgets");
/// A budget that tracks more disrupted pods than this is not trusted to shrink.
const DISRUPTED_MAX: usize = 2000;
/// How often a pod that changes while it is judged is judged anew.
const RETRIES_MAX: usize = 100;

impl Registry {
    pub(super) async fn evict(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        let mut eviction = decode::loose(&EVICTION, body)?;
        let named = tree::text(&eviction, &["metadata", "name"]);
        if !named.is_empty() && named != request.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = delete_options(tree::at(&eviction, &["deleteOptions"]), params.dry_run);
        // The body may say it alone, as `kubectl drain --dry-run=server` does: nothing is spent then, either.
        let params = &WriteParams { dry_run: options.dry_run, ..params.clone() };
        self.admit_action(request, &EVICTION, &mut eviction, params).await?;
        for _ in 0..RETRIES_MAX {
            let pod = self.current(request).await?;
            let version = pod.meta().resource_version;
            let tree = pod.value().map_err(Status::internal)?;
            let spent = !is_free(&tree) && self.spend_budget(request, &pod, &tree, params).await?;
            let pinned = !spent && options.resource_version.is_none();
            let demanded = match pinned {
                true => DeleteParams { resource_version: Some(version.to_string()), ..options.clone() },
                false => options.clone(),
            };
            match self.tell_and_remove(request, demanded, params).await {
                Err(status) if pinned && status.is("Conflict") => {
                    if self.current(request).await?.meta().resource_version == version {
                        return Err(status);
                    }
                }
                done => return done.and_then(|()| super::success()),
            }
        }
        let why = "too many concurrent changes of this object";
        Err(Status::conflict(&request.resource.gvr, request.name, why))
    }

    async fn tell_and_remove(
        &self,
        request: &Request<'_>,
        options: DeleteParams,
        params: &WriteParams,
    ) -> Result<(), Status> {
        let options = self.tell_eviction(request, options, params).await?;
        let pod = Request { subresource: "", ..*request };
        self.remove_object(&pod, &options, true).await.map(drop)
    }

    /// Says on the pod why it goes, before it does. What the deletion demands of the pod is demanded here; of the version
    /// that this makes, from then on.
    async fn tell_eviction(
        &self,
        request: &Request<'_>,
        options: DeleteParams,
        params: &WriteParams,
    ) -> Result<DeleteParams, Status> {
        if options.dry_run {
            return Ok(options);
        }
        let request = Request { subresource: "status", ..*request };
        let make = |pod: Option<&Value>| {
            let pod = pod.ok_or_else(|| Status::not_found(&request.resource.gvr, request.name))?;
            let differs = |wanted: &Option<String>, field: &str| {
                wanted.as_ref().is_some_and(|wanted| tree::text(pod, &["metadata", field]) != wanted)
            };
            if differs(&options.uid, "uid") || differs(&options.resource_version, "resourceVersion") {
                let why = "the pod is not the one that was to be evicted any more";
                return Err(Status::conflict(&request.resource.gvr, request.name, why));
            }
            Ok(marked(pod.clone()))
        };
        let marked = self.carry_out(&request, params, &make).await?.object;
        let version = options.resource_version.map(|_| marked.meta().resource_version.to_string());
        Ok(DeleteParams { resource_version: version, ..options })
    }

    /// Takes one disruption from the pod's budget, if it has one and needs to; whether it did.
    async fn spend_budget(
        &self,
        request: &Request<'_>,
        pod: &Object,
        tree: &Value,
        params: &WriteParams,
    ) -> Result<bool, Status> {
        let mut budgets = self.caches().list(&BUDGETS, request.namespace);
        budgets.retain(|b| selects(b, pod));
        let budget = match budgets.as_slice() {
            [] => return Ok(false),
            [one] => one,
            _ => {
                let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::internal(why));
            }
        };
        let resource = tiphys_api::schema::builtin().get(&BUDGETS).ok_or_else(Status::no_such_path)?;
        let name = budget.meta().name.clone();
        let request = Request { resource, name: &name, subresource: "status", ..*request };
        let pod_name = pod.meta().name.as_ref();
        let takes = AtomicBool::new(false);
        let make = |budget: Option<&Value>| {
            let budget = budget.cloned().unwrap_or_default();
            let needless = !is_ready(tree) && unready_may_go(&budget);
            takes.store(!needless, Ordering::Relaxed);
            if needless { Ok(budget) } else { spent(budget, pod_name) }
        };
        self.carry_out(&request, params, &make).await?;
        Ok(takes.into_inner())
    }
}

/// Whether the pod serves no one: no budget protects it.
fn is_free(pod: &Value) -> bool {
    matches!(tree::text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        || !tree::at(pod, &["metadata", "deletionTimestamp"]).is_null()
}

fn is_ready(pod: &Value) -> bool {
    let ready = |c: &&Value| tree::text(c, &["type"]) == "Ready" && tree::text(c, &["status"]) == "True";
    tree::items(pod, &["status", "conditions"]).iter().find(ready).is_some()
}

fn selects(budget: &Object, pod: &Object) -> bool {
    let Ok(budget) = budget.value() else { return false };
    let selector = LabelSelector::from_value(tree::at(&budget, &["spec", "selector"]));
    selector.is_ok_and(|s| s.matches(&pod.meta().labels))
}

/// The budget with one disruption less, or the refusal.
fn spent(mut budget: Value, pod: &str) -> Result<Value, Status> {
    let name = tree::text(&budget, &["metadata", "name"]);
    let allowed = number(&budget, &["status", "disruptionsAllowed"]);
    if number(&budget, &["status", "observedGeneration"]) < number(&budget, &["metadata", "generation"]) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refusal(why, 10));
    }
    if allowed < 0
        || tree::at(&budget, &["status", "disruptedPods"])
            .as_object()
            .is_some_and(|p| p.len() > DISRUPTED_MAX)
    {
        return Err(Status::failure(
            403,
            "Forbidden",
            format!("pdb disruptions allowed is negative or full: {name}"),
        ));
    }
    if allowed == 0 {
        let (healthy, desired) = health(&budget);
        let why =
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(refusal(why, 0));
    }
    tree::set(&mut budget, &["status", "disruptionsAllowed"], (allowed - 1).into());
    tree::set(&mut budget, &["status", "disruptedPods", pod], tree::time(Timestamp::now()));
    Ok(budget)
}

/// The pod with the condition that tells of its eviction.
fn marked(mut pod: Value) -> Value {
    let ours = |condition: &Value| tree::text(condition, &["type"]) == "DisruptionTarget";
    let mut conditions = tree::items(&pod, &["status", "conditions"]).to_vec();
    let told = conditions.iter().find(|condition| ours(condition));
    let same = told.filter(|condition| tree::text(condition, &["status"]) == "True");
    let since = same.map(|condition| tree::at(condition, &["lastTransitionTime"]).clone());
    let condition = json!({
        "type": "DisruptionTarget", "status": "True",
        "lastTransitionTime": since.unwrap_or_else(|| tree::time(Timestamp::now())),
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    match conditions.iter_mut().find(|condition| ours(condition)) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    tree::set(&mut pod, &["status", "conditions"], conditions.into());
    pod
}

fn number(budget: &Value, path: &[&str]) -> i64 {
    tree::at(budget, path).as_i64().unwrap_or(0)
}

/// How many pods are healthy, and how many should be.
fn health(budget: &Value) -> (i64, i64) {
    (number(budget, &["status", "currentHealthy"]), number(budget, &["status", "desiredHealthy"]))
}

fn unready_may_go(budget: &Value) -> bool {
    let (healthy, desired) = health(budget);
    match tree::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) {
        "AlwaysAllow" => true,
        _ => healthy >= desired && desired > 0,
    }
}

fn refusal(why: String, retry_after_seconds: u32) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = Cause { message: why, reason: "DisruptionBudget".into(), ..Cause::default() };
    let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
    Status { details: Some(details), ..Status::failure(429, "TooManyRequests", message) }
}

fn delete_options(options: &Value, dry_run: bool) -> DeleteParams {
    let text = |path: &[&str]| tree::at(options, path).as_str().map(str::to_owned);
    DeleteParams {
        grace_period_seconds: tree::at(options, &["gracePeriodSeconds"]).as_i64(),
        propagation: match tree::text(options, &["propagationPolicy"]) {
            "Orphan" => Some(Propagation::Orphan),
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            _ => None,
        },
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
        dry_run: dry_run || tree::items(options, &["dryRun"]).iter().any(|d| d == "All"),
    }
}
