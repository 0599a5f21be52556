//! Certificate signing requests: who asks is written down by the server, and what is asked never changes.

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

fn on_update(request: &mut Value, old: &Value, _: &str) {
    tree::set(request, &["spec"], tree::at(old, &["spec"]).clone());
}
