//! DefaultIngressClass: an Ingress that names no class gets the cluster's default one, if there is any.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::{Gvr, Status};

use super::tree::{annotated, newest};
use super::{Plugin, Review};
use crate::auth::Lister;

const GROUP: &str = "networking.k8s.io";
const INGRESS_CLASSES: Gvr = Gvr::new(GROUP, "v1", "ingressclasses");
const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
/// How Ingresses named their class before there was a field.
const OLD_NAME: &str = "/metadata/annotations/kubernetes.io~1ingress.class";

/// See the module.
pub struct DefaultIngressClass {
    lister: Arc<dyn Lister>,
}

impl DefaultIngressClass {
    /// Reads classes from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let named = review.object.pointer("/spec/ingressClassName").is_some_and(|name| !name.is_null())
            || review.object.pointer(OLD_NAME).is_some();
        if !review.creates(GROUP, "ingresses") || named {
            return Ok(());
        }
        let classes = self.lister.list(&INGRESS_CLASSES, "");
        let marked = classes.into_iter().filter(|class| annotated(class, &[MARK])).collect();
        if let Some(class) = newest(marked) {
            review.object["spec"]["ingressClassName"] = class.meta().name.as_ref().into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    #[tokio::test]
    async fn the_default_is_taken_unless_one_is_named() {
        let fake = Fake::default();
        fake.put(&INGRESS_CLASSES, &json!({"metadata": {"name": "front", "annotations": {(MARK): "true"}}}));
        let plugin = DefaultIngressClass::new(Arc::new(fake));
        let ingress = |object| Case::create("networking.k8s.io/ingresses", "ns", object).mutate(&plugin);
        assert_eq!(ingress(json!({"spec": {}})).await.unwrap()["spec"]["ingressClassName"], "front");
        let old = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
        assert_eq!(ingress(old.clone()).await.unwrap(), old);
    }
}
