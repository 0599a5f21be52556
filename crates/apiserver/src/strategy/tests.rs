//! The functions of kinds on small objects; what they answer to requests is in [`golden`].

mod golden;

use tiphys_api::field::Errors;
use tiphys_api::{Gvr, json};

use super::table::own as of;

fn errors_of(gvr: &Gvr, new: &tiphys_api::Value, old: &tiphys_api::Value) -> Vec<String> {
    errors_at(gvr, "", new, old)
}

fn errors_at(gvr: &Gvr, subresource: &str, new: &tiphys_api::Value, old: &tiphys_api::Value) -> Vec<String> {
    let mut errors = Errors::new();
    (of(gvr).validate_update)(new, old, subresource, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

const PODS: Gvr = Gvr::new("", "v1", "pods");

#[test]
fn quality_of_service_follows_the_resources() {
    let class = |resources: tiphys_api::Value| {
        super::pod::qos_class(&json!({ "spec": { "containers": [{ "resources": resources }] } }))
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({ "requests": { "cpu": "1" } })), "Burstable");
    let limits = json!({ "cpu": "1", "memory": "1Gi" });
    assert_eq!(class(json!({ "limits": limits })), "Guaranteed");
    assert_eq!(
        class(json!({ "limits": limits, "requests": { "cpu": "500m", "memory": "1Gi" } })),
        "Burstable"
    );
    assert_eq!(
        class(json!({ "limits": limits, "requests": { "cpu": "1000m", "memory": "1024Mi" } })),
        "Guaranteed"
    );
    let own = json!({ "spec": { "resources": { "limits": limits }, "containers": [{}] } });
    assert_eq!(super::pod::qos_class(&own), "Guaranteed", "what it says itself stands for its containers");
}

#[test]
fn a_pod_on_a_node_gets_its_grace_period() {
    let grace = of(&PODS).grace.unwrap();
    let pod = json!({ "spec": { "nodeName": "n", "terminationGracePeriodSeconds": 30 } });
    assert_eq!((grace(&pod, None), grace(&pod, Some(5)), grace(&pod, Some(-1))), (30, 5, 1));
    assert_eq!(grace(&json!({ "spec": { "terminationGracePeriodSeconds": 30 } }), None), 0);
}

#[test]
fn little_of_a_pod_may_change() {
    let pod = |image: &str, node: &str, seconds: i64| {
        json!({ "spec": { "containers": [{ "name": "c", "image": image }], "nodeName": node,
            "tolerations": [{ "key": "k", "tolerationSeconds": seconds }] } })
    };
    let old = pod("a", "n", 1);
    assert!(errors_of(&PODS, &pod("b", "n", 2), &old).is_empty());
    assert!(
        errors_of(&PODS, &pod("a", "m", 1), &old)[0]
            .starts_with("spec: Forbidden: pod updates may not change")
    );
    let mut bare = old.clone();
    bare["spec"]["tolerations"] = json!([]);
    assert_eq!(
        errors_of(&PODS, &bare, &old),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[test]
fn immutable_means_it() {
    let config = |data: &str, immutable: bool| json!({ "data": { "k": data }, "immutable": immutable });
    let gvr = Gvr::new("", "v1", "configmaps");
    assert!(errors_of(&gvr, &config("b", true), &config("a", false)).is_empty());
    assert_eq!(
        errors_of(&gvr, &config("b", false), &config("a", true)),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set"
        ]
    );
}

#[test]
fn strings_of_a_secret_become_data() {
    let mut secret = json!({ "data": { "a": "eA==" }, "stringData": { "b": "y" } });
    (of(&Gvr::new("", "v1", "secrets")).normalize)(&mut secret);
    assert_eq!(secret, json!({ "data": { "a": "eA==", "b": "eQ==" } }));
}

/// What an older server let in, or a database of time zones that has changed since, stops no later change.
#[test]
fn what_is_stored_already_is_not_judged_again() {
    let jobs = Gvr::new("batch", "v1", "jobs");
    let status = |message: &str| {
        let conditions = json!([{ "type": "Complete", "status": "True", "message": message }]);
        json!({ "spec": { "completionMode": "NonIndexed" },
            "status": { "ready": 2, "active": 1, "completedIndexes": "1", "conditions": conditions } })
    };
    let told = errors_at(&jobs, "status", &status("b"), &status("a"));
    assert_eq!(
        told,
        ["status.conditions: Invalid value: cannot set Complete=True condition without the \
        SuccessCriteriaMet=true condition"]
    );
    let crons = Gvr::new("batch", "v1", "cronjobs");
    let cron = |suspend: bool| json!({ "spec": { "timeZone": "Mars/Olympus", "suspend": suspend } });
    assert_eq!(errors_of(&crons, &cron(true), &cron(false)), [""; 0]);
}

#[test]
fn label_keys_of_a_new_pod_become_part_of_its_selectors() {
    let term = |selector: tiphys_api::Value| {
        json!({ "matchLabelKeys": ["a", "x"], "mismatchLabelKeys": ["b"],
        "labelSelector": selector })
    };
    let mut pod = json!({ "metadata": { "labels": { "a": "1", "b": "2" } }, "spec": {
        "topologySpreadConstraints": [term(json!({}))],
        "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 1, "podAffinityTerm": term(json!(null)) } ] } } } });
    (of(&PODS).on_create)(&mut pod, &crate::auth::User::default());
    let expressions = json!([{ "key": "a", "operator": "In", "values": ["1"] },
        { "key": "b", "operator": "NotIn", "values": ["2"] }]);
    assert_eq!(pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"], expressions);
    let bare =
        "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm";
    assert!(pod.pointer(bare).unwrap()["labelSelector"].is_null());
}
