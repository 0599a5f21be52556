//! The admission chain, as every write passes it.

use tiphys_api::{Gvk, Object, Status, Value};

use super::Registry;
use super::request::{DeleteParams, Request, WriteParams};
use crate::admission::rounds::Rounds;
use crate::admission::{Operation, Options, Review};

impl Registry {
    /// The chain's changes, or its refusal. Plugins may ask for a second round; what completes an object comes last.
    pub(super) async fn mutate(&self, mut review: Review<'_>) -> Result<(), Status> {
        self.round(&mut review).await?;
        if review.rounds.wanted {
            review.rounds.second = true;
            self.round(&mut review).await?;
        }
        for plugin in self.config.admission.iter().filter(|plugin| plugin.completes()) {
            plugin.mutate(&mut review).await?;
        }
        Ok(())
    }

    async fn round(&self, review: &mut Review<'_>) -> Result<(), Status> {
        for plugin in self.config.admission.iter().filter(|plugin| !plugin.completes()) {
            plugin.mutate(review).await?;
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
        params: &DeleteParams,
    ) -> Result<(), Status> {
        let (mut none, options) = (Value::Null, Options::Delete(params));
        self.mutate(review(Operation::Delete, request, &mut none, Some(old), options)).await?;
        self.admit(review(Operation::Delete, request, &mut none, Some(old), options)).await
    }

    /// Both, for a stream; `options` is an object of its kind, filled from the query.
    pub async fn admit_connect(
        &self,
        request: &Request<'_>,
        gvk: &Gvk,
        options: &mut Value,
    ) -> Result<(), Status> {
        let none = Options::None;
        self.mutate(Review { gvk, ..review(Operation::Connect, request, options, None, none) }).await?;
        self.admit(Review { gvk, ..review(Operation::Connect, request, options, None, none) }).await
    }

    /// Both, for a post that acts on an object (or on none).
    pub(super) async fn admit_action(
        &self,
        request: &Request<'_>,
        gvk: &Gvk,
        body: &mut Value,
        params: &WriteParams,
    ) -> Result<(), Status> {
        let options = Options::Create(params);
        self.mutate(Review { gvk, ..review(Operation::Create, request, body, None, options) }).await?;
        self.admit(Review { gvk, ..review(Operation::Create, request, body, None, options) }).await
    }
}

/// A review of what a request does to an object.
pub(super) fn review<'r>(
    operation: Operation,
    request: &'r Request<'_>,
    object: &'r mut Value,
    old: Option<&'r Object>,
    options: Options<'r>,
) -> Review<'r> {
    Review {
        operation,
        resource: request.resource,
        gvr: &request.resource.gvr,
        gvk: &request.resource.gvk,
        subresource: request.subresource,
        namespace: request.namespace,
        name: request.name,
        object,
        old,
        user: request.user,
        dry_run: options.dry_run(),
        options,
        rounds: Rounds::default(),
    }
}
