//! Admission: what the cluster's policy makes of a write, after it is authorized and before it is committed.
//!
//! - One chain stands in the one write path; no verb, and no apply, goes around it.
//! - [`Plugin::mutate`] runs before validation, [`Plugin::validate`] after it, in the order of the documentation's list.

pub mod namespace_lifecycle;
#[cfg(test)]
pub(crate) mod testing;

use async_trait::async_trait;
use tiphys_api::{Gvk, Gvr, Object, Status, Value};

use crate::auth::User;

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a post to a subresource.
    Create,
    /// A changed object: update, patch and apply.
    Update,
    /// A deletion.
    Delete,
    /// A stream: exec, attach, port-forward, proxy.
    Connect,
}

/// One write under review.
#[derive(Debug)]
pub struct Review<'a> {
    /// What is done.
    pub operation: Operation,
    /// The resource.
    pub gvr: &'a Gvr,
    /// Kind of the body.
    pub gvk: &'a Gvk,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Object name; may be empty on create with `generateName`.
    pub name: &'a str,
    /// The new object; `Null` on delete.
    pub object: &'a mut Value,
    /// The stored object, unless this creates one.
    pub old: Option<&'a Object>,
    /// Who asks.
    pub user: &'a User,
    /// Nothing will be committed; leave no trace elsewhere.
    pub dry_run: bool,
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Kubernetes' name of the plugin, as `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// May change the object or refuse.
    async fn mutate(&self, _review: &mut Review<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// May refuse.
    async fn validate(&self, _review: &Review<'_>) -> Result<(), Status> {
        Ok(())
    }
}
