//! `MutatingAdmissionPolicy`: changes that an administrator wants made to objects.
//!
//! - Policies change an object one after the other, by their names and those of their bindings, and their mutations in order,
//!   each with what those before it made of the object, which is decoded, pruned and defaulted anew, as after a webhook.
//! - Like webhooks they may be called a second time, when others changed the object after them ([`Rounds`](super::super::rounds)).
//! - What goes wrong refuses the request, after all were asked, unless the policy's `failurePolicy` passes it.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::schema::Resource;
use tiphys_api::status::Cause;
use tiphys_api::{Status, Value};
use tiphys_cel::{Budget, cost};

use super::super::rounds::Who;
use super::super::webhook::{Asked, Webhooks, is_whole};
use super::super::{Operation, Plugin, Review};
use super::bound::{Invocation, Policies, Policy, Rules};
use super::inputs::{Inputs, Read};
use super::mutation::{self, Mutation};
use crate::auth::Lister;
use crate::kinds::Kinds;
use crate::registry::tree;

/// See the module.
pub struct MutatingAdmissionPolicies(Policies<Mutations>);

/// What a policy changes.
struct Mutations {
    all: Box<[Mutation]>,
    /// `reinvocationPolicy: IfNeeded`
    reinvoked: bool,
}

impl Rules for Mutations {
    const RESOURCES: [&'static str; 2] = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];

    fn new(spec: &Value, inputs: &Inputs) -> Self {
        let env = mutation::env(inputs);
        let all = tree::items(spec, &["mutations"]).iter();
        Self {
            all: all.filter_map(|mutation| Mutation::new(mutation, &env)).collect(),
            reinvoked: tree::text(spec, &["reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

type Invoked<'b> = Invocation<'b, Mutations>;

/// What keeps policies from doing their work: why, and the reason that a client is told.
#[derive(Default)]
struct Denials(Vec<(String, &'static str)>);

impl Denials {
    fn add(&mut self, invocation: &Invoked<'_>, why: &str, reason: &'static str) {
        let (policy, binding) = (&invocation.bound.policy, &invocation.bound.name);
        if !policy.fails_open {
            let name = &policy.name;
            self.0.push((format!("policy '{name}' with binding '{binding}' denied request: {why}"), reason));
        }
    }

    /// A refusal that tells the first, and all in its details.
    fn refuse(self, review: &Review<'_>) -> Result<(), Status> {
        let Some((message, reason)) = self.0.first().cloned() else { return Ok(()) };
        let mut status = review.forbidden("admission request denied by policy");
        status.message = message;
        status.reason = reason.into();
        let causes = self.0.into_iter().map(|(message, _)| Cause { message, ..Cause::default() });
        status.details.get_or_insert_default().causes.extend(causes);
        Err(status)
    }
}

/// One call of one policy among all of a request.
fn key(invocation: &Invoked<'_>) -> String {
    let text = |name| match &invocation.params {
        Ok(params) => tree::text(params, &["metadata", name]),
        Err(_) => "",
    };
    let (policy, binding) = (&invocation.bound.policy.name, &invocation.bound.name);
    format!("{policy}/{binding}/{}/{}", text("namespace"), text("name"))
}

impl MutatingAdmissionPolicies {
    /// Over a server's webhooks, which know how requests are matched.
    pub fn new(webhooks: Arc<Webhooks>, lister: Arc<dyn Lister>, kinds: Arc<Kinds>) -> Self {
        Self(Policies::new(webhooks, lister, kinds))
    }

    /// Calls one policy.
    async fn call(
        &self,
        invocation: &Invoked<'_>,
        review: &mut Review<'_>,
        denials: &mut Denials,
    ) -> Result<(), Status> {
        let params = match &invocation.params {
            Ok(params) => params,
            Err(why) => {
                denials.add(invocation, why, "Forbidden");
                return Ok(());
            }
        };
        let (policy, namespace) = (&invocation.bound.policy, self.0.namespace(review));
        let asked = self.0.webhooks.asked(review, &invocation.told).await?;
        match policy.holds(&asked, (&namespace, params)) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(why) => {
                denials.add(invocation, &why, "Invalid");
                return Ok(());
            }
        }
        let key = key(invocation);
        if !review.rounds.calls(Who::Policies, &key) {
            return Ok(());
        }
        let before = review.object.clone();
        self.change(invocation, (&namespace, params), asked, review, denials).await?;
        let changed = *review.object != before;
        review.rounds.called(Who::Policies, &key, changed, policy.rules.reinvoked);
        Ok(())
    }

    /// Does what the mutations of a policy want.
    async fn change(
        &self,
        invocation: &Invoked<'_>,
        others: (&Value, &Value),
        asked: Asked,
        review: &mut Review<'_>,
        denials: &mut Denials,
    ) -> Result<(), Status> {
        let policy = &invocation.bound.policy;
        let mut asked = Some(asked);
        for mutation in &policy.rules.all {
            // What one mutation made is what the next is asked about.
            let asked = match asked.take() {
                Some(asked) => asked,
                None => self.0.webhooks.asked(review, &invocation.told).await?,
            };
            let kind = is_whole(review).then_some(&invocation.told);
            match outcome(mutation, policy, &asked, others, kind) {
                Ok(Some(wanted)) => {
                    let who = format!("policy '{}'", policy.name);
                    let changed = self.0.webhooks.rewritten(review, &invocation.told, &asked, &wanted, &who);
                    *review.object = changed.await?;
                }
                Ok(None) => {}
                Err(why) => denials.add(invocation, &why, "Invalid"),
            }
        }
        Ok(())
    }
}

/// What one mutation makes of an object, within a budget of its own.
fn outcome(
    mutation: &Mutation,
    policy: &Policy<Mutations>,
    asked: &Asked,
    others: (&Value, &Value),
    kind: Option<&Arc<Resource>>,
) -> Result<Option<Value>, String> {
    let budget = Budget::new(cost::PER_OBJECT);
    let read = Read::new(&policy.inputs, asked, others, &budget);
    mutation.outcome(&read, &asked.object, kind)
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        if review.operation == Operation::Delete || review.object.is_null() {
            return Ok(());
        }
        let Some(bound) = self.0.about(review) else { return Ok(()) };
        let invocations = self.0.invocations(&bound, review).await?;
        let mut denials = Denials::default();
        review.rounds.enter(Who::Policies, review.object);
        for invocation in &invocations {
            self.call(invocation, review, &mut denials).await?;
        }
        review.rounds.leave(Who::Policies, review.object);
        denials.refuse(review)
    }
}
