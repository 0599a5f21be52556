//! NamespaceLifecycle: nothing is made in a namespace that is not there or on its way out, and the system's own
//! namespaces stay.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::status::Cause;
use tiphys_api::{Gvr, Status};

use super::{Operation, Plugin, Review};
use crate::auth::Lister;

const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");
/// Namespaces that nobody deletes.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
const AUTHORIZATION: &str = "authorization.k8s.io";

/// See the module.
pub struct NamespaceLifecycle {
    lister: Arc<dyn Lister>,
}

impl NamespaceLifecycle {
    /// Reads namespaces from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let is_namespace = review.gvr.group.is_empty() && review.gvr.resource == "namespaces";
        if review.operation == Operation::Delete && is_namespace && IMMORTAL.contains(&review.name) {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden(&NAMESPACES, review.name, why));
        }
        if review.namespace.is_empty() || is_namespace || review.operation != Operation::Create {
            return Ok(());
        }
        // Asking what one may do needs no namespace.
        if review.gvr.group == AUTHORIZATION {
            return Ok(());
        }
        let find = || self.lister.get(&NAMESPACES, "", review.namespace);
        let mut found = find();
        if found.is_none() {
            self.lister.refresh().await;
            found = find();
        }
        let namespace = found.ok_or_else(|| Status::not_found(&NAMESPACES, review.namespace))?;
        match namespace.meta().deleted {
            Some(_) => Err(terminating(review)),
            None => Ok(()),
        }
    }
}

fn terminating(review: &Review<'_>) -> Status {
    let namespace = review.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(review.gvr, review.name, &why);
    let cause = Cause {
        field: "metadata.namespace".into(),
        message: format!("namespace {namespace} is being terminated"),
        reason: "NamespaceTerminating".into(),
    };
    if let Some(details) = &mut status.details {
        details.causes.push(cause);
    }
    status
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    fn plugin() -> NamespaceLifecycle {
        let fake = Fake::default();
        fake.put_named(&NAMESPACES, "", "here", "u");
        fake.put(
            &NAMESPACES,
            &json!({"metadata": {"name": "going", "deletionTimestamp": "2026-11-22T10:00:00Z"}}),
        );
        NamespaceLifecycle::new(Arc::new(fake))
    }

    #[tokio::test]
    async fn content_needs_a_living_namespace() {
        let create = |namespace| Case::create("pods", namespace, json!({}));
        assert!(create("here").mutate(&plugin()).await.is_ok());
        let gone = create("gone").mutate(&plugin()).await.unwrap_err();
        assert_eq!((gone.code, gone.message.as_str()), (404, r#"namespaces "gone" not found"#));
        let going = create("going").mutate(&plugin()).await.unwrap_err();
        assert_eq!(
            going.message,
            r#"pods "x" is forbidden: unable to create new content in namespace going because it is being terminated"#
        );
        assert_eq!(going.details.unwrap().causes[0].reason, "NamespaceTerminating");
        // What is there may still change, so that it can go.
        assert!(create("going").operation(Operation::Update).mutate(&plugin()).await.is_ok());
    }

    #[tokio::test]
    async fn the_systems_namespaces_stay() {
        let delete = |name: &'static str| {
            Case { name, ..Case::create("namespaces", "", json!(null)) }.operation(Operation::Delete)
        };
        let refused = delete("kube-system").mutate(&plugin()).await.unwrap_err();
        assert_eq!(
            refused.message,
            r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#
        );
        assert!(delete("here").mutate(&plugin()).await.is_ok());
    }
}
