//! DefaultStorageClass: a claim that names no class gets the cluster's default one, if there is any.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::{Gvr, Status};

use super::tree::{annotated, newest};
use super::{Plugin, Review};
use crate::auth::Lister;

const STORAGE_CLASSES: Gvr = Gvr::new("storage.k8s.io", "v1", "storageclasses");
const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// How claims named their class before there was a field.
const OLD_NAME: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";

/// See the module.
pub struct DefaultStorageClass {
    lister: Arc<dyn Lister>,
}

impl DefaultStorageClass {
    /// Reads classes from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let named = review.object.pointer("/spec/storageClassName").is_some_and(|name| !name.is_null())
            || review.object.pointer(OLD_NAME).is_some();
        if !review.creates("", "persistentvolumeclaims") || named {
            return Ok(());
        }
        let classes = self.lister.list(&STORAGE_CLASSES, "");
        let marked = classes.into_iter().filter(|class| annotated(class, &MARKS)).collect();
        if let Some(class) = newest(marked) {
            review.object["spec"]["storageClassName"] = class.meta().name.as_ref().into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::{Value, json};

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    #[tokio::test]
    async fn the_newest_default_is_taken_unless_one_is_named() {
        let fake = Arc::new(Fake::default());
        let plugin = DefaultStorageClass::new(fake.clone());
        let class = |name: &str, created: &str, default: &str| {
            fake.put(
                &STORAGE_CLASSES,
                &json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {(MARKS[0]): default}}}),
            );
        };
        let claim = async |spec: Value| {
            let claim = Case::create("persistentvolumeclaims", "ns", json!({"spec": spec}));
            claim.mutate(&plugin).await.unwrap()["spec"]["storageClassName"].clone()
        };
        assert_eq!(claim(json!({})).await, Value::Null);
        class("old", "2026-01-01T00:00:00Z", "true");
        class("new", "2026-02-01T00:00:00Z", "true");
        class("newer", "2026-03-01T00:00:00Z", "false");
        assert_eq!(claim(json!({})).await, "new");
        assert_eq!(claim(json!({"storageClassName": ""})).await, "");
    }
}
