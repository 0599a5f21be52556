//! Whether a pod tolerates a taint; used by several plugins.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::pod::Pod;

/// Whether one of the pod's tolerations covers the taint.
pub fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.wishes.iter().flat_map(|w| &w.tolerations).any(|t| covers(t, taint))
}

/// Source: API reference, `core/v1 Toleration`.
fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (given(&toleration.effect), given(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && given(&toleration.value) == given(&taint.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_key_with_exists_covers_all() {
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        let toleration = |operator: &str, key: &str, value: &str, effect: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (operator, key, value, effect) = (some(operator), some(key), some(value), some(effect));
            covers(&Toleration { operator, key, value, effect, toleration_seconds: None }, &taint)
        };
        assert!(toleration("Exists", "", "", ""));
        assert!(toleration("Equal", "k", "v", "NoSchedule"));
        assert!(!toleration("", "k", "w", ""));
        assert!(!toleration("Exists", "k", "", "NoExecute"));
    }
}
