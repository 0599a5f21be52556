//! The difference of two statuses as a strategic merge patch: only what changed is sent, so that what others wrote
//! (readiness gates, disruption) is never overwritten.

use serde_json::{Map, Value, json};

use crate::status::conditions::is_own;

/// The patch that makes `old` into `new`; `None` when they are equal.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        let before = old.get(key).unwrap_or(&Value::Null);
        if before == value {
            continue;
        }
        let changed = match key.as_str() {
            // Merged by address: without this the old address would stay.
            "podIPs" | "hostIPs" if before.is_array() => replaced(value),
            "conditions" => kept_or_deleted(before, value),
            _ if value.is_object() && before.is_object() => difference(before, value).unwrap_or(Value::Null),
            _ => value.clone(),
        };
        patch.insert(key.clone(), changed);
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Conditions are merged by their types: one of our own that is no more has to be named, and so has what one had to say
/// before and has not now.
fn kept_or_deleted(before: &Value, now: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut items = list(now);
    for item in &mut items {
        let old = list(before).into_iter().find(|old| old["type"] == item["type"]);
        let (Some(Value::Object(old)), Value::Object(new)) = (old, item) else { continue };
        for (key, _) in old {
            new.entry(key).or_insert(Value::Null);
        }
    }
    let gone = |old: &&Value| {
        let is_own = old["type"].as_str().is_some_and(is_own);
        is_own && !list(now).iter().any(|new| new["type"] == old["type"])
    };
    let deleted = |old: &Value| json!({"$patch": "delete", "type": old["type"]});
    items.extend(list(before).iter().filter(gone).map(deleted));
    Value::Array(items)
}

fn replaced(list: &Value) -> Value {
    let mut items = vec![json!({"$patch": "replace"})];
    items.extend(list.as_array().cloned().unwrap_or_default());
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_sent() {
        let old = json!({"phase": "Pending", "hostIP": "1.1.1.1", "podIPs": [{"ip": "a"}], "message": "x"});
        let new = json!({"phase": "Running", "hostIP": "1.1.1.1", "podIPs": [{"ip": "b"}]});
        let patch = difference(&old, &new).unwrap();
        let expected =
            json!({"phase": "Running", "podIPs": [{"$patch": "replace"}, {"ip": "b"}], "message": null});
        assert_eq!(patch, expected);
        assert_eq!(difference(&new, &new), None);
        let old =
            json!({"conditions": [{"type": "PodResizePending"}, {"type": "theirs"}, {"type": "Ready"}]});
        let patch = difference(&old, &json!({"conditions": [{"type": "Ready"}]})).unwrap();
        let gone = json!({"$patch": "delete", "type": "PodResizePending"});
        assert_eq!(patch, json!({"conditions": [{"type": "Ready"}, gone]}));
        let old = json!({"conditions": [{"type": "Ready", "status": "False", "message": "not yet"}]});
        let patch = difference(&old, &json!({"conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
        let ready = json!({"type": "Ready", "status": "True", "message": null});
        assert_eq!(patch, json!({"conditions": [ready]}), "what it said before is not said any more");
    }
}
