//! LimitRanger: containers get a namespace's default requests and limits, and pods and claims stay within its bounds.

mod bounds;

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::quota::{Amounts, Part};
use tiphys_api::{Gvr, Object, Status, Value};

use super::tree::{items, text};
use super::{Operation, Plugin, Review};
use crate::auth::Lister;
use bounds::{Asked, Bounds};

const LIMIT_RANGES: Gvr = Gvr::new("", "v1", "limitranges");
/// Where a pod tells what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// See the module.
pub struct LimitRanger {
    lister: Arc<dyn Lister>,
}

impl LimitRanger {
    /// Reads limit ranges from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }

    fn limits(&self, namespace: &str) -> Vec<Value> {
        let read = |object: Object| object.value().ok().map(|value| items(&value, "/spec/limits").to_vec());
        self.lister.list(&LIMIT_RANGES, namespace).into_iter().filter_map(read).flatten().collect()
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        if !review.creates("", "pods") {
            return Ok(());
        }
        for limit in self.limits(review.namespace).iter().filter(|limit| kind(limit) == "Container") {
            fill_in(review.object, limit);
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let claims = matches!(review.operation, Operation::Create | Operation::Update)
            && review.is("", "persistentvolumeclaims");
        let resizes = review.operation == Operation::Update
            && review.gvr.group.is_empty()
            && review.gvr.resource == "pods"
            && review.subresource == "resize";
        let pods = review.creates("", "pods") || resizes;
        let ending = review.object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
        if !(claims || pods) || ending {
            return Ok(());
        }
        let mut errors = Vec::new();
        for limit in self.limits(review.namespace) {
            match (kind(&limit), pods) {
                ("Container", true) => containers(review.object).for_each(|container| {
                    Bounds::read(&limit).judge("Container", &asked_by_container(container), &mut errors);
                }),
                ("Pod", true) => Bounds::read(&limit).judge("Pod", &asked_by_pod(review.object), &mut errors),
                ("PersistentVolumeClaim", false) => {
                    Bounds::read(&limit).judge_claim(&asked_by_claim(review.object), &mut errors);
                }
                _ => {}
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(review.forbidden(one)),
            many => Err(review.forbidden(&format!("[{}]", many.join(", ")))),
        }
    }
}

fn kind(limit: &Value) -> &str {
    text(limit, "/type")
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    items(pod, "/spec/containers").iter().chain(items(pod, "/spec/initContainers"))
}

fn asked_by_container(container: &Value) -> Asked {
    Asked { requests: Part::Requests.of_container(container), limits: Part::Limits.of_container(container) }
}

fn asked_by_pod(pod: &Value) -> Asked {
    Asked { requests: Part::Requests.of_pod(pod), limits: Part::Limits.of_pod(pod) }
}

fn asked_by_claim(claim: &Value) -> Asked {
    let requests = claim.pointer("/spec/resources/requests").map(Amounts::read).unwrap_or_default();
    Asked { requests, limits: Amounts::default() }
}

/// Fills defaults into the containers that say nothing, and tells so in an annotation.
fn fill_in(pod: &mut Value, limit: &Value) {
    let mut told = Vec::new();
    for (key, what) in [("containers", "container"), ("initContainers", "init container")] {
        let spec = pod.get_mut("spec").and_then(|spec| spec.get_mut(key));
        for container in spec.and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            for (part, defaults) in [("requests", "defaultRequest"), ("limits", "default")] {
                let set = set_missing(container, part, &limit[defaults]);
                if !set.is_empty() {
                    let singular = part.trim_end_matches('s');
                    told.push(format!("{} {singular} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if told.is_empty() {
        return;
    }
    let annotations = &mut pod["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = Value::Object(tiphys_api::Map::new());
    }
    annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", told.join("; ")).into();
}

/// Names of what was missing and is set now.
fn set_missing(container: &mut Value, part: &str, defaults: &Value) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.as_object().into_iter().flatten() {
        let own = &mut container["resources"][part][name];
        if own.is_null() {
            *own = amount.clone();
            set.push(name.to_string());
        }
    }
    set
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a literal reads best as a value")]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    fn plugin(limits: Value) -> LimitRanger {
        let fake = Fake::default();
        fake.put(
            &LIMIT_RANGES,
            &json!({"metadata": {"namespace": "ns", "name": "r"}, "spec": {"limits": limits}}),
        );
        LimitRanger::new(Arc::new(fake))
    }

    fn pod(containers: Value) -> Case {
        Case::create("pods", "ns", json!({"metadata": {"name": "x"}, "spec": {"containers": containers}}))
    }

    #[tokio::test]
    async fn what_a_container_does_not_say_is_filled_in_and_told() {
        let plugin =
            plugin(json!([{"type": "Container", "defaultRequest": {"cpu": "100m", "memory": "64Mi"},
            "default": {"cpu": "1"}}]));
        let own = json!([{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}}]);
        let pod = pod(own).mutate(&plugin).await.unwrap();
        let resources = |i: usize| pod["spec"]["containers"][i]["resources"].clone();
        let first = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}});
        let second = json!({"requests": {"cpu": "2", "memory": "64Mi"}, "limits": {"cpu": "3"}});
        assert_eq!((resources(0), resources(1)), (first, second));
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a; \
             memory request for container b"
        );
    }

    #[tokio::test]
    async fn pods_and_claims_stay_within_the_bounds() {
        let plugin = plugin(json!([
            {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "2"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}, "min": {"storage": "1Gi"}},
        ]));
        let container = |request: &str, limit: &str| {
            json!({"name": "c", "resources": {"requests": {"cpu": request, "memory": "1Gi"},
                "limits": {"cpu": limit, "memory": "1Gi"}}})
        };
        let judge = async |containers: Value| match pod(containers).validate(&plugin).await {
            Ok(()) => String::new(),
            Err(status) => status.message.replace("pods \"x\" is forbidden: ", ""),
        };
        assert_eq!(judge(json!([container("500m", "1")])).await, "");
        assert_eq!(
            judge(json!([container("900m", "1500m")])).await,
            "maximum cpu usage per Container is 1, but limit is 1500m"
        );
        assert_eq!(
            judge(json!([container("50m", "100m")])).await,
            "minimum cpu usage per Container is 100m, but request is 50m"
        );
        assert_eq!(
            judge(json!([container("200m", "1")])).await,
            "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000"
        );
        assert_eq!(
            judge(json!([container("500m", "1"), container("500m", "1")])).await,
            "maximum memory usage per Pod is 1Gi, but limit is 2Gi"
        );
        let claim = async |size: &str| {
            let claim =
                json!({"metadata": {"name": "x"}, "spec": {"resources": {"requests": {"storage": size}}}});
            Case::create("persistentvolumeclaims", "ns", claim).validate(&plugin).await.map_err(|s| s.message)
        };
        assert_eq!(claim("2Gi").await, Ok(()));
        let refused = claim("6Gi").await.unwrap_err();
        assert!(
            refused.ends_with("maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"),
            "{refused}"
        );
    }
}
