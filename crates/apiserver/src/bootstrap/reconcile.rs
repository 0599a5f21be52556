//! What to write so that the cluster holds an object as the bootstrap wants it, without undoing what people changed.

use tiphys_api::Value;

use crate::auth::rbac::Rule;
use crate::auth::rbac::covers::missing;

/// How far the bootstrap insists on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It must exist; what it says is people's business.
    Exists,
    /// It says what the bootstrap says; more may be said.
    Says,
    /// A Service: as `Says`, but the addresses it once got stay.
    Service,
    /// A role: has at least these rules, unless told to stay as it is.
    Role,
    /// A binding: has at least these subjects, unless told to stay as it is.
    Binding,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// Make it.
    Create(Value),
    /// Put this in its place.
    Update(Value),
    /// Remove it and make this instead (what a binding refers to, or a slice's family, cannot be changed).
    Replace(Value),
}

/// Annotations that tell whether the bootstrap may change an object that is there.
const AUTOUPDATE: [&str; 2] =
    ["rbac.authorization.kubernetes.io/autoupdate", "apf.kubernetes.io/autoupdate-spec"];

/// Decides; `None` when all is well.
pub(super) fn plan(how: How, want: &Value, have: Option<&Value>) -> Option<Write> {
    let Some(have) = have else { return Some(Write::Create(want.clone())) };
    if how == How::Exists || left_alone(have) {
        return None;
    }
    let fixed = ["roleRef", "addressType"].map(|field| (want.get(field), have.get(field)));
    if fixed.iter().any(|(want, have)| want.is_some() && want != have) {
        return Some(Write::Replace(want.clone()));
    }
    let mut result = have.clone();
    match how {
        How::Role => improve_role(want, &mut result),
        How::Binding => improve_binding(want, &mut result),
        How::Service => {
            let mut want = want.clone();
            if let Some(spec) = want["spec"].as_object_mut() {
                spec.retain(|key, _| !matches!(key.as_str(), "clusterIP" | "clusterIPs" | "ipFamilies"));
            }
            overlay(&want, &mut result);
        }
        How::Exists | How::Says => overlay(want, &mut result),
    }
    (result != *have).then_some(Write::Update(result))
}

fn left_alone(have: &Value) -> bool {
    AUTOUPDATE
        .iter()
        .any(|key| have["metadata"]["annotations"].get(key).is_some_and(|value| value == "false"))
}

fn improve_role(want: &Value, have: &mut Value) {
    overlay(&want["metadata"], &mut have["metadata"]);
    if let Some(rule) = want.get("aggregationRule") {
        // Whoever aggregates keeps the rules.
        return overlay(rule, &mut have["aggregationRule"]);
    }
    let held = rules(&have["rules"]);
    let lacking = |rule: &&Value| !missing(&held, &rules(&Value::Array(vec![(*rule).clone()]))).is_empty();
    let more: Vec<Value> = want["rules"].as_array().into_iter().flatten().filter(lacking).cloned().collect();
    append(have, "rules", more);
}

fn rules(value: &Value) -> Vec<Rule> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|rule| serde::Deserialize::deserialize(rule).ok()).collect()
}

fn improve_binding(want: &Value, have: &mut Value) {
    overlay(&want["metadata"], &mut have["metadata"]);
    let present = have["subjects"].as_array().cloned().unwrap_or_default();
    let wanted = want["subjects"].as_array().into_iter().flatten();
    let more = wanted.filter(|subject| !present.iter().any(|p| within(subject, p))).cloned().collect();
    append(have, "subjects", more);
}

/// Adds to a list; touches nothing when there is nothing to add.
fn append(object: &mut Value, key: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    match &mut object[key] {
        Value::Array(items) => items.extend(more),
        other => *other = more.into(),
    }
}

/// Whether `have` says all that `want` says.
fn within(want: &Value, have: &Value) -> bool {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => {
            want.iter().all(|(key, value)| have.get(key).is_some_and(|other| within(value, other)))
        }
        (Value::Array(want), Value::Array(have)) => {
            want.len() == have.len() && want.iter().zip(have).all(|(want, have)| within(want, have))
        }
        _ => want == have,
    }
}

/// Makes `have` say what `want` says: objects by key, lists as a whole.
fn overlay(want: &Value, have: &mut Value) {
    if within(want, have) {
        return;
    }
    match (want, have) {
        (Value::Object(want), Value::Object(map)) => {
            for (key, value) in want {
                overlay(value, map.entry(key.clone()).or_insert(Value::Null));
            }
        }
        (want, have) => *have = want.clone(),
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;

    #[test]
    fn a_role_gains_what_it_lacks_and_loses_nothing() {
        let rule = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["pods"], "verbs": verbs});
        let role = |rules: &[Value]| json!({"metadata": {"name": "x"}, "rules": rules});
        let want = role(&[rule(&["get"]), rule(&["list", "watch"])]);
        assert_eq!(plan(How::Role, &want, None), Some(Write::Create(want.clone())));
        let more = role(&[rule(&["*"])]);
        assert_eq!(plan(How::Role, &want, Some(&more)), None);
        let less = role(&[rule(&["delete"]), rule(&["get", "list"])]);
        let fixed = role(&[rule(&["delete"]), rule(&["get", "list"]), rule(&["list", "watch"])]);
        assert_eq!(plan(How::Role, &want, Some(&less)), Some(Write::Update(fixed)));
        let mut kept = less;
        kept["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
        assert_eq!(plan(How::Role, &want, Some(&kept)), None);
    }

    #[test]
    fn a_binding_gains_subjects_and_is_replaced_when_it_binds_another_role() {
        let binding = |role: &str, users: &[&str]| {
            let subjects: Vec<Value> =
                users.iter().map(|name| json!({"kind": "User", "name": name})).collect();
            json!({"metadata": {}, "roleRef": {"name": role}, "subjects": subjects})
        };
        let want = binding("r", &["a"]);
        let both = Write::Update(binding("r", &["b", "a"]));
        assert_eq!(plan(How::Binding, &want, Some(&binding("r", &["b"]))), Some(both));
        assert_eq!(plan(How::Binding, &want, Some(&binding("r", &["a", "b"]))), None);
        assert_eq!(
            plan(How::Binding, &want, Some(&binding("s", &["a"]))),
            Some(Write::Replace(want.clone()))
        );
    }

    #[test]
    fn defaults_of_the_server_are_no_difference_but_changes_are() {
        let want = json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 443}]}});
        let have =
            json!({"spec": {"clusterIP": "10.9.0.1", "ports": [{"port": 443, "protocol": "TCP"}], "x": 1}});
        assert_eq!(plan(How::Service, &want, Some(&have)), None);
        let moved = json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 444}]}});
        let Some(Write::Update(result)) = plan(How::Service, &moved, Some(&have)) else { panic!() };
        assert_eq!(result, json!({"spec": {"clusterIP": "10.9.0.1", "ports": [{"port": 444}], "x": 1}}));
        assert_eq!(plan(How::Exists, &want, Some(&json!({}))), None);
    }
}
