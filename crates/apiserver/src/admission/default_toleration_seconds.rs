//! DefaultTolerationSeconds: a pod stays five minutes on a node that is lost, unless it says otherwise.

use async_trait::async_trait;
use tiphys_api::{Status, Value, json};

use super::tree::{items, list, text};
use super::{Operation, Plugin, Review};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// See the module.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        if !writes || !review.is("", "pods") {
            return Ok(());
        }
        let tolerations = items(review.object, "/spec/tolerations");
        let missing: Vec<&str> =
            TAINTS.into_iter().filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint))).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(list) = list(&mut review.object["spec"], "tolerations") {
            list.extend(missing.into_iter().map(toleration));
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}

fn toleration(taint: &str) -> Value {
    json!({ "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Case;

    async fn tolerations(own: Value) -> Vec<Value> {
        let pod = Case::create("pods", "ns", json!({"spec": {"tolerations": own}}));
        pod.mutate(&DefaultTolerationSeconds).await.unwrap()["spec"]["tolerations"]
            .as_array()
            .unwrap()
            .clone()
    }

    #[tokio::test]
    async fn only_what_is_not_tolerated_is_added() {
        let keys = |list: Vec<Value>| list.iter().map(|t| text(t, "/key").to_owned()).collect::<Vec<_>>();
        assert_eq!(keys(tolerations(json!(null)).await), TAINTS);
        assert_eq!(
            keys(tolerations(json!([{"key": TAINTS[1], "effect": "NoExecute"}])).await),
            [TAINTS[1], TAINTS[0]]
        );
        assert_eq!(keys(tolerations(json!([{"key": TAINTS[0], "effect": "NoSchedule"}])).await).len(), 3);
        assert_eq!(keys(tolerations(json!([{"operator": "Exists"}])).await), [""]);
    }
}
