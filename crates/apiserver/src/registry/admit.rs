//! The admission chain, as every write passes it.

use tiphys_api::{Gvk, Object, Status, Value};

use super::Registry;
use super::request::Request;
use crate::admission::{Operation, Review};

impl Registry {
    /// The chain's changes, or its refusal.
    pub(super) async fn mutate(&self, mut review: Review<'_>) -> Result<(), Status> {
        for plugin in &self.config.admission {
            plugin.mutate(&mut review).await?;
        }
        Ok(())
    }

    /// The chain's refusal.
    pub(super) async fn admit(&self, review: Review<'_>) -> Result<(), Status> {
        for plugin in &self.config.admission {
            plugin.validate(&review).await?;
        }
        Ok(())
    }

    /// Both, for a deletion.
    pub(super) async fn admit_delete(
        &self,
        request: &Request<'_>,
        old: &Object,
        dry_run: bool,
    ) -> Result<(), Status> {
        let mut none = Value::Null;
        self.mutate(review(Operation::Delete, request, &mut none, Some(old), dry_run)).await?;
        self.admit(review(Operation::Delete, request, &mut none, Some(old), dry_run)).await
    }

    /// Both, for a stream; `options` is an object of its kind, filled from the query.
    pub async fn admit_connect(
        &self,
        request: &Request<'_>,
        gvk: &Gvk,
        options: &mut Value,
    ) -> Result<(), Status> {
        self.mutate(Review { gvk, ..review(Operation::Connect, request, options, None, false) }).await?;
        self.admit(Review { gvk, ..review(Operation::Connect, request, options, None, false) }).await
    }

    /// Both, for a post that acts on an object (or on none).
    pub(super) async fn admit_action(
        &self,
        request: &Request<'_>,
        gvk: &Gvk,
        body: &mut Value,
        dry_run: bool,
    ) -> Result<(), Status> {
        self.mutate(Review { gvk, ..review(Operation::Create, request, body, None, dry_run) }).await?;
        self.admit(Review { gvk, ..review(Operation::Create, request, body, None, dry_run) }).await
    }
}

/// A review of what a request does to an object.
pub(super) fn review<'r>(
    operation: Operation,
    request: &'r Request<'_>,
    object: &'r mut Value,
    old: Option<&'r Object>,
    dry_run: bool,
) -> Review<'r> {
    Review {
        operation,
        gvr: &request.resource.gvr,
        gvk: &request.resource.gvk,
        subresource: request.subresource,
        namespace: request.namespace,
        name: request.name,
        object,
        old,
        user: request.user,
        dry_run,
    }
}
