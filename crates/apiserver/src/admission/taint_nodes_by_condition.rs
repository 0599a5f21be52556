//! TaintNodesByCondition: a new node takes no pods until it was seen to be ready.

use async_trait::async_trait;
use tiphys_api::{Status, json};

use super::tree::{items, list, text};
use super::{Plugin, Review};

const TAINT: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

/// See the module.
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let tainted = items(review.object, "/spec/taints")
            .iter()
            .any(|taint| text(taint, "/key") == TAINT && text(taint, "/effect") == EFFECT);
        if !review.creates("", "nodes") || tainted {
            return Ok(());
        }
        if !review.object["spec"].is_object() {
            review.object["spec"] = json!({});
        }
        if let Some(taints) = list(&mut review.object["spec"], "taints") {
            taints.push(json!({ "key": TAINT, "effect": EFFECT }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Case;

    #[tokio::test]
    async fn a_new_node_is_tainted_once() {
        let bare = Case::create("nodes", "", json!({})).mutate(&TaintNodesByCondition).await.unwrap();
        assert_eq!(bare["spec"]["taints"], json!([{"key": TAINT, "effect": EFFECT}]));
        let again = Case::create("nodes", "", bare.clone()).mutate(&TaintNodesByCondition).await.unwrap();
        assert_eq!(again, bare);
    }
}
