//! Priority: a pod's priority is the number of its class, and never its own claim.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::{Gvr, Object, Status};

use super::tree::text;
use super::{Operation, Plugin, Review};
use crate::auth::Lister;

const GROUP: &str = "scheduling.k8s.io";
const PRIORITY_CLASSES: Gvr = Gvr::new(GROUP, "v1", "priorityclasses");

/// See the module.
pub struct Priority {
    lister: Arc<dyn Lister>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Class {
    value: i64,
    global_default: bool,
    preemption_policy: Option<String>,
}

impl Priority {
    /// Reads classes from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }

    /// The class for pods that name none: of several, the one with the lowest number.
    fn default_class(&self) -> Option<(Object, Class)> {
        // Every pod that is made asks, and mostly there is none: bytes tell without a parse. False is not written.
        let marked = |object: &Object| {
            std::str::from_utf8(object.json()).is_ok_and(|text| text.contains("\"globalDefault\":true"))
        };
        let classes = self.lister.list(&PRIORITY_CLASSES, "").into_iter().filter(marked);
        let read = classes.filter_map(|object| object.decode::<Class>().ok().map(|class| (object, class)));
        read.filter(|(_, class)| class.global_default).min_by_key(|(_, class)| class.value)
    }

    fn admit_pod(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let name = text(review.object, "/spec/priorityClassName").to_owned();
        let class = match name.as_str() {
            "" => self.default_class().map(|(object, class)| (object.meta().name.to_string(), class)),
            name => {
                let found = self.lister.get(&PRIORITY_CLASSES, "", name).ok_or_else(|| {
                    review.forbidden(&format!("no PriorityClass with name {name} was found"))
                })?;
                Some((name.to_owned(), found.decode().map_err(Status::internal)?))
            }
        };
        let (name, class) = class.unwrap_or_default();
        let computed = class.value;
        let policy = class.preemption_policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
        if let Some(given) = review.object["spec"]["priority"].as_i64().filter(|given| *given != computed) {
            return Err(review.forbidden(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            )));
        }
        let asked = text(review.object, "/spec/preemptionPolicy");
        if !asked.is_empty() && asked != policy {
            return Err(review.forbidden(&format!(
                "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        let spec = &mut review.object["spec"];
        if !name.is_empty() {
            spec["priorityClassName"] = name.into();
        }
        spec["priority"] = computed.into();
        spec["preemptionPolicy"] = policy.into();
        Ok(())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        if review.creates("", "pods") {
            return self.admit_pod(review);
        }
        if review.operation == Operation::Update && review.is("", "pods") {
            keep(review)?;
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        if !writes || !review.is(GROUP, "priorityclasses") || review.object["globalDefault"] != true {
            return Ok(());
        }
        match self.default_class().filter(|(object, _)| object.meta().name.as_ref() != review.name) {
            Some((other, _)) => Err(review.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.meta().name
            ))),
            None => Ok(()),
        }
    }
}

/// A full update by a client that does not know these fields does not clear them.
fn keep(review: &mut Review<'_>) -> Result<(), Status> {
    let Some(old) = review.old else { return Ok(()) };
    if review.object["spec"].get("priority").is_some_and(|v| !v.is_null())
        && review.object["spec"].get("preemptionPolicy").is_some_and(|v| !v.is_null())
    {
        return Ok(());
    }
    let old = old.value().map_err(Status::internal)?;
    for key in ["priority", "preemptionPolicy"] {
        if let (true, Some(value)) = (review.object["spec"][key].is_null(), old["spec"].get(key)) {
            review.object["spec"][key] = value.clone();
        } else if review.object["spec"][key].is_null() {
            review.object["spec"].as_object_mut().map(|spec| spec.remove(key));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tiphys_api::{Value, json};

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    fn plugin(default: bool) -> Priority {
        let fake = Fake::default();
        let class = |name: &str, value: i64, default: bool| {
            fake.put(
                &PRIORITY_CLASSES,
                &json!({"metadata": {"name": name}, "value": value, "globalDefault": default,
                        "preemptionPolicy": if value < 0 { "Never" } else { "PreemptLowerPriority" }}),
            );
        };
        class("high", 1000, false);
        class("low", -5, default);
        Priority::new(Arc::new(fake))
    }

    async fn pod(plugin: &Priority, spec: Value) -> Result<Value, Status> {
        Case::create("pods", "ns", json!({"spec": spec})).mutate(plugin).await.map(|pod| pod["spec"].clone())
    }

    #[tokio::test]
    async fn the_class_decides() {
        let named = pod(&plugin(false), json!({"priorityClassName": "high"})).await.unwrap();
        assert_eq!(
            (&named["priority"], &named["preemptionPolicy"]),
            (&json!(1000), &json!("PreemptLowerPriority"))
        );
        let none = pod(&plugin(false), json!({})).await.unwrap();
        assert_eq!(none, json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}));
        let default = pod(&plugin(true), json!({})).await.unwrap();
        assert_eq!(default, json!({"priorityClassName": "low", "priority": -5, "preemptionPolicy": "Never"}));
    }

    #[tokio::test]
    async fn a_pods_own_claim_is_refused() {
        let claim = pod(&plugin(false), json!({"priority": 7})).await.unwrap_err();
        assert!(claim.message.contains("the integer value of priority (7) must not be provided"), "{claim}");
        let lost = pod(&plugin(false), json!({"priorityClassName": "no"})).await.unwrap_err();
        assert_eq!(lost.message, r#"pods "x" is forbidden: no PriorityClass with name no was found"#);
    }

    #[tokio::test]
    async fn there_is_one_default_class() {
        let class = || Case::create("scheduling.k8s.io/priorityclasses", "", json!({"globalDefault": true}));
        assert!(class().validate(&plugin(false)).await.is_ok());
        let refused = class().validate(&plugin(true)).await.unwrap_err();
        assert!(
            refused
                .message
                .ends_with("PriorityClass low is already marked as default. Only one default can exist")
        );
    }

    #[tokio::test]
    async fn an_update_keeps_what_it_does_not_mention() {
        let mut update = Case::create("pods", "ns", json!({"spec": {"x": 1}})).operation(Operation::Update);
        update.old = Some(json!({"metadata": {}, "spec": {"priority": 5, "preemptionPolicy": "Never"}}));
        let updated = update.mutate(&plugin(false)).await.unwrap();
        assert_eq!(updated["spec"], json!({"x": 1, "priority": 5, "preemptionPolicy": "Never"}));
    }
}
