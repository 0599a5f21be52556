//! PersistentVolumeClaimResize: a claim grows only where its class says that volumes can.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::quantity::Quantity;
use tiphys_api::{Gvr, Status, Value};

use super::tree::text;
use super::{Operation, Plugin, Review};
use crate::auth::Lister;

const STORAGE_CLASSES: Gvr = Gvr::new("storage.k8s.io", "v1", "storageclasses");

/// See the module.
pub struct PersistentVolumeClaimResize {
    lister: Arc<dyn Lister>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Class {
    allow_volume_expansion: bool,
}

impl PersistentVolumeClaimResize {
    /// Reads classes from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }

    fn can_grow(&self, claim: &Value) -> bool {
        let class = self.lister.get(&STORAGE_CLASSES, "", text(claim, "/spec/storageClassName"));
        class.and_then(|class| class.decode::<Class>().ok()).is_some_and(|class| class.allow_volume_expansion)
    }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let claim = review.operation == Operation::Update && review.is("", "persistentvolumeclaims");
        let Some(old) = review.old.filter(|_| claim) else { return Ok(()) };
        let old = old.value().map_err(Status::internal)?;
        if !grows(&old, review.object) {
            return Ok(());
        }
        if text(&old, "/status/phase") != "Bound" {
            return Err(review.forbidden("Only bound persistent volume claims can be expanded"));
        }
        match self.can_grow(&old) {
            true => Ok(()),
            false => Err(review.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            )),
        }
    }
}

fn grows(old: &Value, new: &Value) -> bool {
    let size = |claim| text(claim, "/spec/resources/requests/storage").parse::<Quantity>().ok();
    matches!((size(old), size(new)), (Some(old), Some(new)) if new > old)
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    async fn resize(class: &str, phase: &str, from: &str, to: &str) -> Result<(), String> {
        let fake = Fake::default();
        fake.put(&STORAGE_CLASSES, &json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true}));
        fake.put(&STORAGE_CLASSES, &json!({"metadata": {"name": "fixed"}}));
        let claim = |size: &str| {
            json!({"metadata": {"name": "x"}, "status": {"phase": phase},
                   "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
        };
        let case = Case::create("persistentvolumeclaims", "ns", claim(to)).operation(Operation::Update);
        let plugin = PersistentVolumeClaimResize::new(Arc::new(fake));
        let result = Case { old: Some(claim(from)), ..case }.validate(&plugin).await;
        result.map_err(|status| status.message)
    }

    #[tokio::test]
    async fn a_claim_grows_where_its_class_does() {
        assert_eq!(resize("grows", "Bound", "1Gi", "2Gi").await, Ok(()));
        assert_eq!(resize("fixed", "Bound", "1024Mi", "1Gi").await, Ok(()));
        assert!(resize("fixed", "Bound", "1Gi", "2Gi").await.unwrap_err().contains("must support resize"));
        assert!(resize("grows", "Pending", "1Gi", "2Gi").await.unwrap_err().contains("Only bound"));
    }
}
