//! One object in another version of its kind.
//!
//! - Most versions of a kind have equal shapes: then only `apiVersion` changes.
//! - The others are written out below: autoscaling v1 and v2, events of the core group and of `events.k8s.io`, and
//!   devices of `resource.k8s.io/v1beta1`. Converting there and back loses nothing.
//! - Custom resources keep their fields, unless a webhook converts them, which is done elsewhere.

use crate::{Map, Value, json};

use crate::schema::Resource;
use crate::structural;

type Fields = Map;

/// What autoscaling/v1 has no field for, it carries as JSON in these annotations.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// Core name, then the name in `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

/// Rewrites an object of one resource as the other serves it. Both serve the same objects.
pub fn between(from: &Resource, to: &Resource, value: &mut Value) {
    if let Some(custom) = &to.custom {
        return structural::to_version(custom, &to.gvk, value);
    }
    let Value::Object(object) = value else { return };
    if from.gvr == to.gvr {
        return;
    }
    object.insert("apiVersion".into(), to.gvr.api_version().into());
    object.insert("kind".into(), to.gvk.kind.as_ref().into());
    let ends = |r: &Resource| (r.gvr.group.to_string(), r.gvr.version.to_string());
    let ((from_group, from_version), (to_group, to_version)) = (ends(from), ends(to));
    match (to_group.as_str(), from_version.as_str(), to_version.as_str(), to.gvr.resource.as_ref()) {
        ("autoscaling", "v2", "v1", _) => autoscaling_v1(object),
        ("autoscaling", "v1", "v2", _) => autoscaling_v2(object),
        ("events.k8s.io", ..) if from_group.is_empty() => rename(object, EVENT_FIELDS),
        ("", _, _, "events") => rename(object, EVENT_FIELDS.map(|(core, new)| (new, core))),
        ("resource.k8s.io", "v1beta1", _, _) => devices(object, request_from_beta1, device_from_beta1),
        ("resource.k8s.io", _, "v1beta1", _) => devices(object, request_to_beta1, device_to_beta1),
        _ => {}
    }
}

fn rename(object: &mut Fields, names: [(&str, &str); 7]) {
    for (old, new) in names {
        if let Some(value) = object.remove(old) {
            object.insert(new.into(), value);
        }
    }
}

fn child<'a>(object: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    object.get_mut(name)?.as_object_mut()
}

fn annotate(object: &mut Fields, key: &str, value: Option<Value>) {
    let Some(value) = value else { return };
    let meta = object.entry("metadata").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(key.into(), value.to_string().into());
        }
    }
}

/// Takes what an annotation carries; one that a user broke is left where it is.
fn unannotate(object: &mut Fields, key: &str) -> Option<Value> {
    let meta = child(object, "metadata")?;
    let annotations = child(meta, "annotations")?;
    let value = serde_json::from_str(annotations.get(key)?.as_str()?).ok()?;
    annotations.remove(key);
    if annotations.is_empty() {
        meta.remove("annotations");
    }
    Some(value)
}

fn is_cpu_utilization(metric: &Value, value_at: &str) -> bool {
    let cpu = metric.pointer("/resource/name").is_some_and(|name| name == "cpu");
    cpu && metric["type"] == "Resource" && metric.pointer(value_at).is_some()
}

/// Takes the CPU metric out of a list; returns its figure.
fn take_cpu(metrics: &mut Vec<Value>, value_at: &str) -> Option<Value> {
    let at = metrics.iter().position(|metric| is_cpu_utilization(metric, value_at))?;
    metrics.remove(at).pointer(value_at).cloned()
}

fn autoscaling_v1(object: &mut Fields) {
    let mut extra = [(METRICS, None), (BEHAVIOR, None), (CURRENT_METRICS, None), (CONDITIONS, None)];
    if let Some(spec) = child(object, "spec") {
        if let Some(Value::Array(mut metrics)) = spec.remove("metrics") {
            if let Some(target) = take_cpu(&mut metrics, "/resource/target/averageUtilization") {
                spec.insert("targetCPUUtilizationPercentage".into(), target);
            }
            extra[0].1 = (!metrics.is_empty()).then(|| metrics.into());
        }
        extra[1].1 = spec.remove("behavior");
    }
    if let Some(status) = child(object, "status") {
        if let Some(Value::Array(mut metrics)) = status.remove("currentMetrics") {
            if let Some(current) = take_cpu(&mut metrics, "/resource/current/averageUtilization") {
                status.insert("currentCPUUtilizationPercentage".into(), current);
            }
            extra[2].1 = (!metrics.is_empty()).then(|| metrics.into());
        }
        extra[3].1 = status.remove("conditions");
    }
    for (key, value) in extra {
        annotate(object, key, value);
    }
}

fn autoscaling_v2(object: &mut Fields) {
    let metrics = unannotate(object, METRICS);
    let behavior = unannotate(object, BEHAVIOR);
    let current = unannotate(object, CURRENT_METRICS);
    let conditions = unannotate(object, CONDITIONS);
    if let Some(spec) = child(object, "spec") {
        let cpu = spec.remove("targetCPUUtilizationPercentage").map(|percent| {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
        });
        insert_list(spec, "metrics", cpu, metrics);
        spec.extend(behavior.map(|b| ("behavior".to_owned(), b)));
    }
    if let Some(status) = child(object, "status") {
        let cpu = status.remove("currentCPUUtilizationPercentage").map(|percent| {
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}})
        });
        insert_list(status, "currentMetrics", cpu, current);
        status.extend(conditions.map(|c| ("conditions".to_owned(), c)));
    }
}

fn insert_list(fields: &mut Fields, name: &str, first: Option<Value>, rest: Option<Value>) {
    let rest = match rest {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let items: Vec<Value> = rest.into_iter().chain(first).collect();
    if !items.is_empty() {
        fields.insert(name.into(), items.into());
    }
}

/// Changes every device request of a claim or claim template, and every device of a slice.
fn devices(object: &mut Fields, request: fn(&mut Fields), device: fn(&mut Fields)) {
    let Some(spec) = child(object, "spec") else { return };
    let spec = if spec.contains_key("spec") { child(spec, "spec") } else { Some(spec) };
    match spec.and_then(|spec| spec.get_mut("devices")) {
        Some(Value::Array(list)) => list.iter_mut().filter_map(Value::as_object_mut).for_each(device),
        Some(Value::Object(claim)) => {
            let requests = claim.get_mut("requests").and_then(Value::as_array_mut);
            requests.into_iter().flatten().filter_map(Value::as_object_mut).for_each(request);
        }
        _ => {}
    }
}

/// Moves all but the named fields into a struct of their own.
fn nest(fields: &mut Fields, into: &str, stay: &[&str]) {
    let (kept, moved): (Fields, Fields) =
        std::mem::take(fields).into_iter().partition(|(key, _)| stay.contains(&key.as_str()));
    *fields = kept;
    if !moved.is_empty() {
        fields.insert(into.into(), moved.into());
    }
}

fn flatten(fields: &mut Fields, from: &str) {
    if let Some(Value::Object(inner)) = fields.remove(from) {
        fields.extend(inner);
    }
}

fn request_from_beta1(request: &mut Fields) {
    nest(request, "exactly", &["name", "firstAvailable"]);
}

fn request_to_beta1(request: &mut Fields) {
    flatten(request, "exactly");
}

fn device_from_beta1(device: &mut Fields) {
    flatten(device, "basic");
}

fn device_to_beta1(device: &mut Fields) {
    nest(device, "basic", &["name"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvr::Gvr;
    use crate::schema::builtin;

    fn resource(group: &'static str, version: &'static str, name: &'static str) -> &'static Resource {
        builtin().get(&Gvr::new(group, version, name)).unwrap()
    }

    fn there_and_back(a: &Resource, b: &Resource, value: &Value) -> Value {
        let mut other = value.clone();
        between(a, b, &mut other);
        let unknown = crate::decode::structure(b, &mut other.clone()).unwrap();
        assert!(unknown.is_empty(), "{unknown:?}");
        let mut back = other.clone();
        between(b, a, &mut back);
        assert_eq!(&back, value);
        other
    }

    #[test]
    fn autoscalers_keep_what_v1_cannot_say() {
        let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}});
        let memory = json!({"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}});
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3, "behavior": {"scaleUp": {}},
                "metrics": [{"type": "Resource", "resource": memory}, {"type": "Resource", "resource": cpu}],
            },
            "status": {"conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let name = "horizontalpodautoscalers";
        let v1 =
            there_and_back(resource("autoscaling", "v2", name), resource("autoscaling", "v1", name), &v2);
        assert_eq!(v1["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 60}));
        assert_eq!(v1["apiVersion"], "autoscaling/v1");
    }

    #[test]
    fn events_are_one_kind_under_two_names() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 2,
            "source": {"component": "kubelet"}, "reason": "R", "lastTimestamp": "2026-11-22T10:00:00Z",
        });
        let new =
            there_and_back(resource("", "v1", "events"), resource("events.k8s.io", "v1", "events"), &core);
        assert_eq!((&new["note"], &new["regarding"]["name"]), (&json!("m"), &json!("p")));
    }

    #[test]
    fn device_requests_and_devices_are_nested_differently() {
        let request = json!({"name": "r", "exactly": {"deviceClassName": "gpu", "count": 1}});
        let claim = json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": {"devices": {"requests": [request]}},
        });
        let (v1, beta1) = ("v1", "v1beta1");
        let at = |version, name| resource("resource.k8s.io", version, name);
        let old = there_and_back(at(v1, "resourceclaims"), at(beta1, "resourceclaims"), &claim);
        assert_eq!(old["spec"]["devices"]["requests"][0]["deviceClassName"], "gpu");
        let slice = json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
            "spec": {"driver": "d", "devices": [{"name": "a", "attributes": {"x": {"bool": true}}}]},
        });
        let old = there_and_back(at(v1, "resourceslices"), at(beta1, "resourceslices"), &slice);
        assert_eq!(old["spec"]["devices"][0]["basic"]["attributes"]["x"]["bool"], true);
    }
}
