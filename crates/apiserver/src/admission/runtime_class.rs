//! RuntimeClass: a pod takes over what its class costs, and where the class can run.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::{Gvr, Map, Status, Value};

use super::tree::{list, text};
use super::{Plugin, Review};
use crate::auth::Lister;

const RUNTIME_CLASSES: Gvr = Gvr::new("node.k8s.io", "v1", "runtimeclasses");

/// See the module.
pub struct RuntimeClass {
    lister: Arc<dyn Lister>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Class {
    overhead: Option<Overhead>,
    scheduling: Option<Scheduling>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Overhead {
    pod_fixed: Option<Map>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Scheduling {
    node_selector: Option<Map>,
    tolerations: Option<Vec<Value>>,
}

impl RuntimeClass {
    /// Reads classes from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }

    fn class(&self, review: &Review<'_>) -> Result<Option<Class>, Status> {
        let name = text(review.object, "/spec/runtimeClassName");
        if name.is_empty() {
            return Ok(None);
        }
        let found = self
            .lister
            .get(&RUNTIME_CLASSES, "", name)
            .ok_or_else(|| review.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")))?;
        found.decode().map(Some).map_err(Status::internal)
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        if !review.creates("", "pods") {
            return Ok(());
        }
        let Some(class) = self.class(review)? else { return Ok(()) };
        if let Some(cost) = class.overhead.and_then(|overhead| overhead.pod_fixed) {
            let given = &review.object["spec"]["overhead"];
            let differs = given.as_object().is_some_and(|given| !given.is_empty() && *given != cost);
            if differs {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(review.forbidden(why));
            }
            review.object["spec"]["overhead"] = cost.into();
        }
        let scheduling = class.scheduling.unwrap_or_default();
        select(review, scheduling.node_selector.unwrap_or_default())?;
        tolerate(review, scheduling.tolerations.unwrap_or_default());
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let cost = review.object.pointer("/spec/overhead").and_then(Value::as_object);
        if !review.creates("", "pods") || cost.is_none_or(Map::is_empty) {
            return Ok(());
        }
        let class = self.class(review)?.and_then(|class| class.overhead).and_then(|o| o.pod_fixed);
        match class {
            Some(_) => Ok(()),
            None => {
                let why =
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(review.forbidden(why))
            }
        }
    }
}

fn select(review: &mut Review<'_>, wanted: Map) -> Result<(), Status> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut selector = review.object["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
    for (key, value) in wanted {
        match selector.get(&key).filter(|own| **own != value) {
            Some(own) => {
                let why = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or_default(),
                    own.as_str().unwrap_or_default()
                );
                return Err(review.forbidden(&why));
            }
            None => selector.insert(key, value),
        };
    }
    review.object["spec"]["nodeSelector"] = selector.into();
    Ok(())
}

fn tolerate(review: &mut Review<'_>, wanted: Vec<Value>) {
    if wanted.is_empty() {
        return;
    }
    if let Some(tolerations) = list(&mut review.object["spec"], "tolerations") {
        let new: Vec<Value> = wanted.into_iter().filter(|one| !tolerations.contains(one)).collect();
        tolerations.extend(new);
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a literal reads best as a value")]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    fn plugin() -> RuntimeClass {
        let fake = Fake::default();
        fake.put(
            &RUNTIME_CLASSES,
            &json!({"metadata": {"name": "vm"}, "overhead": {"podFixed": {"memory": "64Mi"}},
                    "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]}}),
        );
        RuntimeClass::new(Arc::new(fake))
    }

    fn pod(spec: Value) -> Case {
        Case::create("pods", "ns", json!({"spec": spec}))
    }

    #[tokio::test]
    async fn a_pod_takes_over_cost_and_place() {
        let admitted = pod(json!({"runtimeClassName": "vm"})).mutate(&plugin()).await.unwrap();
        let spec = json!({"runtimeClassName": "vm", "overhead": {"memory": "64Mi"}, "nodeSelector": {"vm": "yes"},
                          "tolerations": [{"key": "vm"}]});
        assert_eq!(admitted["spec"], spec);
        assert!(pod(spec).validate(&plugin()).await.is_ok());
    }

    #[tokio::test]
    async fn contradictions_are_refused() {
        let refused = async |spec: Value| pod(spec).mutate(&plugin()).await.unwrap_err().message;
        let lost = refused(json!({"runtimeClassName": "no"})).await;
        assert_eq!(lost, r#"pods "x" is forbidden: pod rejected: RuntimeClass "no" not found"#);
        let cost = refused(json!({"runtimeClassName": "vm", "overhead": {"memory": "1Mi"}})).await;
        assert!(cost.contains("doesn't match RuntimeClass's defined Overhead"));
        let place = refused(json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}})).await;
        assert!(place.contains(
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
        ));
        let unfounded = pod(json!({"overhead": {"memory": "1Mi"}})).validate(&plugin()).await.unwrap_err();
        assert!(unfounded.message.contains("Pod Overhead set without corresponding RuntimeClass"));
    }
}
