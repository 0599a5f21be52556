//! Controllers of pods: selectors and templates, strategies, schedules.

use serde_json::{Map, Value};

use super::{At, Fields, items, number, object, pods, text, under};
use crate::field::{Error, Errors};
use crate::selector::LabelSelector;

/// Selector and template of a controller whose pods run for ever.
fn lasting(at: &At<'_>, spec: &Fields, kind: &str, errors: &mut Errors) {
    if let Some(selector @ Value::Object(fields)) = spec.get("selector") {
        if fields.is_empty() {
            let why = format!("empty selector is invalid for {kind}");
            errors.push(Error::invalid(&at.path().child("selector"), selector.clone(), &why));
        } else {
            selects_template(at, spec, selector, errors);
        }
    }
    let policy = spec.get("template").and_then(|t| t.pointer("/spec/restartPolicy")).and_then(Value::as_str);
    if let Some(policy) = policy.filter(|policy| *policy != "Always") {
        errors.push(Error::not_supported(&under(at, "template.spec.restartPolicy"), policy, &["Always"]));
    }
}

fn selects_template(at: &At<'_>, spec: &Fields, selector: &Value, errors: &mut Errors) {
    let labels = spec.get("template").and_then(|t| t.pointer("/metadata/labels")).and_then(Value::as_object);
    let nothing = Map::new();
    let labels = labels.unwrap_or(&nothing);
    let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
    let matches = LabelSelector::from_value(selector).is_ok_and(|s| s.matches(&pairs.collect()));
    if !matches {
        let why = "`selector` does not match template `labels`";
        errors.push(Error::invalid(
            &under(at, "template.metadata.labels"),
            Value::Object(labels.clone()),
            why,
        ));
    }
}

/// What the template's containers mount is there, `added` by the controller included.
fn template_mounts(at: &At<'_>, spec: &Fields, added: &[&str], errors: &mut Errors) {
    let pod = object(spec, "template").and_then(|template| object(template, "spec"));
    if let Some(pod) = pod {
        let template = At::Child(at, "template");
        pods::mounts_exist(&At::Child(&template, "spec"), pod, added, errors);
    }
}

/// Whether a count or share is nothing at all.
fn is_zero(value: Option<&Value>) -> bool {
    value.is_some_and(|value| *value == 0 || value == "0%")
}

/// Strategy and deadlines of a Deployment.
pub fn deployment(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    lasting(at, spec, "deployment", errors);
    template_mounts(at, spec, &[], errors);
    let strategy = object(spec, "strategy");
    let rolling = strategy.and_then(|strategy| object(strategy, "rollingUpdate"));
    let kind = strategy.map_or("", |strategy| text(strategy, "type"));
    if kind == "Recreate" && rolling.is_some() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        errors.push(Error::forbidden(&under(at, "strategy.rollingUpdate"), why));
    }
    if let Some(rolling) = rolling
        && is_zero(rolling.get("maxUnavailable"))
        && is_zero(rolling.get("maxSurge"))
    {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        let path = under(at, "strategy.rollingUpdate.maxUnavailable");
        errors.push(Error::invalid(&path, value, "may not be 0 when `maxSurge` is 0"));
    }
    if let (Some(deadline), Some(ready)) =
        (number(spec, "progressDeadlineSeconds"), number(spec, "minReadySeconds"))
        && deadline <= ready
    {
        let path = at.path().child("progressDeadlineSeconds");
        errors.push(Error::invalid(&path, deadline, "must be greater than minReadySeconds"));
    }
}

/// Selector and template of a ReplicaSet.
pub fn replica_set(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    lasting(at, spec, "replicaset", errors);
    template_mounts(at, spec, &[], errors);
}

/// Selector and template of a StatefulSet.
pub fn stateful_set(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    lasting(at, spec, "statefulset", errors);
    let claims: Vec<&str> = items(spec, "volumeClaimTemplates")
        .filter_map(|(_, claim)| object(claim, "metadata"))
        .map(|metadata| text(metadata, "name"))
        .collect();
    template_mounts(at, spec, &claims, errors);
}

/// The template of a ReplicationController.
pub fn replication_controller(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    template_mounts(at, spec, &[], errors);
}

/// Selector, template and update strategy of a DaemonSet.
pub fn daemon_set(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    lasting(at, spec, "daemonset", errors);
    template_mounts(at, spec, &[], errors);
    let rolling = object(spec, "updateStrategy").and_then(|strategy| object(strategy, "rollingUpdate"));
    let Some(rolling) = rolling else { return };
    let (unavailable, surge) = (is_zero(rolling.get("maxUnavailable")), is_zero(rolling.get("maxSurge")));
    let path = under(at, "updateStrategy.rollingUpdate.maxUnavailable");
    let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
    match (unavailable, surge) {
        (true, true) => errors.push(Error::invalid(&path, value, "cannot be 0 when maxSurge is 0")),
        (false, false) => {
            let path = under(at, "updateStrategy.rollingUpdate.maxSurge");
            let value = rolling.get("maxSurge").cloned().unwrap_or_default();
            if rolling.contains_key("maxSurge") {
                errors.push(Error::invalid(&path, value, "may not be set when maxUnavailable is non-zero"));
            }
        }
        _ => {}
    }
}

/// A Job's pods end.
pub fn job(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let pod = spec.get("template").and_then(|template| template.get("spec")).and_then(Value::as_object);
    let policy = pod.map_or("", |pod| text(pod, "restartPolicy"));
    if !matches!(policy, "OnFailure" | "Never") {
        let path = under(at, "template.spec.restartPolicy");
        errors.push(Error::required(&path, r#"valid values: "OnFailure", "Never""#));
    }
    template_mounts(at, spec, &[], errors);
    if text(spec, "completionMode") == "Indexed" && !spec.contains_key("completions") {
        let path = at.path().child("completions");
        errors.push(Error::required(&path, "when completion mode is Indexed"));
    }
}

/// A CronJob's schedule has five fields or a name.
pub fn cron_job(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        return;
    }
    let path = at.path().child("schedule");
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(Error::invalid(&path, schedule, why));
    } else if !schedule.starts_with('@') && fields.len() != 5 {
        let why = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
        errors.push(Error::invalid(&path, schedule, &why));
    }
}

/// At least as many replicas at most as at least.
pub fn autoscaler(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let (min, max) = (number(spec, "minReplicas"), number(spec, "maxReplicas").unwrap_or_default());
    if max < 1 {
        errors.push(Error::invalid(&at.path().child("maxReplicas"), max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&at.path().child("maxReplicas"), max, why));
    }
}

/// A budget counts what is up or what is down, not both.
pub fn disruption_budget(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if spec.contains_key("minAvailable") && spec.contains_key("maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&at.path(), Value::Object(spec.clone()), why));
    }
}
