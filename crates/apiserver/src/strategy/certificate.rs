//! Certificate signing requests: who asks is written down by the server, and what is asked never changes.

use jiff::Timestamp;
use tiphys_api::Value;

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

pub(super) const REQUESTS: Rules = Rules { on_create, on_update, ..Rules::DEFAULT };

fn on_create(request: &mut Value, user: &User) {
    let uid = if user.uid.is_empty() { Value::Null } else { user.uid.as_str().into() };
    let extra: serde_json::Map<String, Value> =
        user.extra.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    let extra = if extra.is_empty() { Value::Null } else { extra.into() };
    for (name, value) in [
        ("username", user.name.as_str().into()),
        ("uid", uid),
        ("groups", user.groups.clone().into()),
        ("extra", extra),
    ] {
        tree::set(request, &["spec", name], value);
    }
    tree::set(request, &["status"], serde_json::json!({}));
}

fn on_update(request: &mut Value, old: &Value, subresource: &str) {
    tree::set(request, &["spec"], tree::at(old, &["spec"]).clone());
    if !subresource.is_empty() {
        date_conditions(request, old);
    }
}

/// Conditions that come without times get them: when they were written, and when their status last changed.
fn date_conditions(request: &mut Value, old: &Value) {
    let before = tree::items(old, &["status", "conditions"]);
    let conditions = request.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    let now = tree::time(Timestamp::now());
    for condition in conditions.into_iter().flatten() {
        let same = |c: &&Value| {
            ["type", "status"].iter().all(|key| tree::at(c, &[key]) == tree::at(condition, &[key]))
        };
        let known = before.iter().find(same).map(|c| tree::at(c, &["lastTransitionTime"]).clone());
        let changed = known.filter(|time| !time.is_null()).unwrap_or_else(|| now.clone());
        for (name, time) in [("lastUpdateTime", now.clone()), ("lastTransitionTime", changed)] {
            if tree::at(condition, &[name]).is_null() {
                tree::set(condition, &[name], time);
            }
        }
    }
}
