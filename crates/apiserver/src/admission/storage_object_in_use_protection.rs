//! StorageObjectInUseProtection: volumes and claims carry a finalizer, so that none goes while a pod uses it.

use async_trait::async_trait;
use tiphys_api::Status;

use super::tree::list;
use super::{Plugin, Review};

/// See the module.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let finalizer = if review.creates("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if review.creates("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else {
            return Ok(());
        };
        if let Some(finalizers) = list(&mut review.object["metadata"], "finalizers")
            && !finalizers.iter().any(|one| one == finalizer)
        {
            finalizers.push(finalizer.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;

    #[tokio::test]
    async fn the_finalizer_is_there_once() {
        let plugin = StorageObjectInUseProtection;
        let own = json!({"metadata": {"finalizers": ["a"]}});
        let once = Case::create("persistentvolumes", "", own).mutate(&plugin).await.unwrap();
        assert_eq!(once["metadata"]["finalizers"], json!(["a", "kubernetes.io/pv-protection"]));
        assert_eq!(Case::create("persistentvolumes", "", once.clone()).mutate(&plugin).await.unwrap(), once);
        let claim = Case::create("persistentvolumeclaims", "ns", json!({"metadata": {}}))
            .mutate(&plugin)
            .await
            .unwrap();
        assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    }
}
