//! Admission: what the cluster's policy makes of a write, after it is authorized and before it is committed.
//!
//! - One chain stands in the one write path; no verb, and no apply, goes around it.
//! - [`Plugin::mutate`] runs before validation, [`Plugin::validate`] after it, in the order of the documentation's list.

pub mod authority;
pub mod certificates;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod expression;
pub mod limit_ranger;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod options;
pub mod persistent_volume_claim_resize;
pub mod policy;
pub mod priority;
pub mod rbac_escalation;
pub mod rounds;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
#[cfg(test)]
pub(crate) mod testing;
mod tree;
pub mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Gvr, Object, Status, Value};

use crate::auth::{Authorizer, Lister, Rbac, User};
pub use options::Options;
use rounds::Rounds;

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
    /// The resource, in the request's version.
    pub resource: &'a Arc<Resource>,
    /// Its name.
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
    /// The request's options.
    pub options: Options<'a>,
    /// Where the mutating plugins are.
    pub rounds: Rounds,
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Kubernetes' name of the plugin, as `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// Whether it mutates last, once, when no other plugin will change the object: what it gives is not given twice.
    fn completes(&self) -> bool {
        false
    }
    /// May change the object or refuse.
    async fn mutate(&self, _review: &mut Review<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// May refuse.
    async fn validate(&self, _review: &Review<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Review<'_> {
    /// Whether this is about objects of a resource themselves, not of a subresource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.gvr.group == group && self.gvr.resource == resource && self.subresource.is_empty()
    }

    /// Whether this makes a new object of a resource.
    pub fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation == Operation::Create && self.is(group, resource)
    }

    /// 403 about this object.
    pub fn forbidden(&self, why: &str) -> Status {
        let of = |key| self.object.pointer(key).and_then(Value::as_str).unwrap_or_default();
        let name = [self.name, of("/metadata/name"), of("/metadata/generateName")];
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        Status::forbidden(self.gvr, name, why)
    }
}

/// The plugins of a server, in the order of Kubernetes' documentation.
pub fn default_plugins(
    lister: &Arc<dyn Lister>,
    rbac: &Arc<Rbac>,
    authorizer: &Arc<dyn Authorizer>,
) -> Vec<Arc<dyn Plugin>> {
    let lister = || lister.clone();
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(lister())),
        Arc::new(limit_ranger::LimitRanger::new(lister())),
        Arc::new(service_account::ServiceAccount::new(lister())),
        Arc::new(node_restriction::NodeRestriction::new(lister(), authorizer.clone())),
        Arc::new(taint_nodes_by_condition::TaintNodesByCondition),
        Arc::new(priority::Priority::new(lister())),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(default_storage_class::DefaultStorageClass::new(lister())),
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize::new(lister())),
        Arc::new(runtime_class::RuntimeClass::new(lister())),
        Arc::new(certificates::CertificateApproval(authorizer.clone())),
        Arc::new(certificates::CertificateSigning(authorizer.clone())),
        Arc::new(certificates::CertificateSubjectRestriction),
        Arc::new(default_ingress_class::DefaultIngressClass::new(lister())),
        Arc::new(rbac_escalation::RbacEscalation::new(rbac.clone(), authorizer.clone())),
    ]
}
