//! Label selectors against the labels of the template beside them.

use crate::{Map, Value};

use super::Fields;
use super::here::Here;
use crate::field::Error;
use crate::selector::LabelSelector;

/// Whether a selector has no requirement.
pub(super) fn is_empty(selector: &Fields) -> bool {
    let none = |name: &str| match selector.get(name) {
        Some(Value::Object(labels)) => labels.is_empty(),
        Some(Value::Array(expressions)) => expressions.is_empty(),
        _ => true,
    };
    none("matchLabels") && none("matchExpressions")
}

/// The `selector` of a controller selects what its `template` makes. `unreadable` is said of a selector that cannot
/// select at all.
pub(super) fn template(here: &mut Here<'_, '_>, unreadable: Option<&str>) {
    let Some(Value::Object(selector)) = here.get("selector") else { return };
    let labels = here.object("template.metadata.labels");
    // Only a selector that does not match is looked at again: it may be no selector.
    if matches(selector, labels) {
        return;
    }
    let full = here.get("selector").cloned().unwrap_or_default();
    match (LabelSelector::from_value(&full), unreadable) {
        (Ok(_), _) => {
            let why = "`selector` does not match template `labels`";
            let labels = labels.cloned().map_or(Value::Null, Value::Object);
            here.errors.push(Error::invalid(&here.path("template.metadata.labels"), labels, why));
        }
        (Err(_), Some(why)) => here.invalid_as("selector", full, why),
        (Err(_), None) => {}
    }
}

fn matches(selector: &Fields, labels: Option<&Fields>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let pairs = selector.get("matchLabels").and_then(Value::as_object);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let holds = |expression: &Value| {
        let label = label(expression.get("key").and_then(Value::as_str).unwrap_or_default());
        let values =
            expression.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        match expression.get("operator").and_then(Value::as_str).unwrap_or_default() {
            "In" => label.is_some_and(|label| values.contains(label)),
            "NotIn" => !values.is_empty() && label.is_none_or(|label| !values.contains(label)),
            "Exists" => label.is_some() && values.is_empty(),
            "DoesNotExist" => label.is_none() && values.is_empty(),
            _ => false,
        }
    };
    pairs.unwrap_or(&Map::new()).iter().all(|(key, value)| label(key) == Some(value))
        && expressions.into_iter().flatten().all(holds)
}
