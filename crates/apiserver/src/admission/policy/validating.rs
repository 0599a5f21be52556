//! `ValidatingAdmissionPolicy`: what an administrator objects to, and what bindings want done about it.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::schema::Resource;
use tiphys_api::status::Cause;
use tiphys_api::{Status, Value};
use tiphys_cel::{Budget, Env, Type, Value as Cel, cost};

use super::super::expression::{self, Compiled};
use super::super::webhook::{Asked, Webhooks};
use super::super::{Plugin, Review};
use super::bound::{Bound, Invocation, Policies, Policy, Rules};
use super::inputs::{Inputs, Read};
use crate::auth::Lister;
use crate::kinds::Kinds;
use crate::registry::tree;

/// Reasons of a refusal, and their codes.
const REASONS: [(&str, u16); 4] =
    [("Unauthorized", 401), ("Forbidden", 403), ("Invalid", 422), ("RequestEntityTooLarge", 413)];

/// See the module.
pub struct ValidatingAdmissionPolicies(Policies<Validations>);

/// What a policy demands.
struct Validations(Box<[Validation]>);

struct Validation {
    program: Compiled,
    message: Option<tiphys_cel::Program>,
    text: Box<str>,
    reason: Box<str>,
}

impl Rules for Validations {
    const RESOURCES: [&'static str; 2] = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];

    fn new(spec: &Value, inputs: &Inputs) -> Self {
        let all = tree::items(spec, &["validations"]).iter();
        Self(all.map(|validation| Validation::new(validation, &inputs.env)).collect())
    }
}

impl Validation {
    fn new(validation: &Value, env: &Env) -> Self {
        let text = |name: &str| tree::text(validation, &[name]).trim();
        let given = match text("message") {
            "" => format!("failed expression: {}", text("expression")),
            message => message.to_owned(),
        };
        Self {
            program: expression::compile(text("expression"), env, Some(&Type::Bool)),
            message: expression::compile(text("messageExpression"), env, Some(&Type::String)).ok(),
            text: given.into(),
            reason: text("reason").into(),
        }
    }

    fn expression(&self) -> &str {
        self.text.strip_prefix("failed expression: ").unwrap_or(&self.text)
    }

    fn message(&self, read: &Read<'_>) -> String {
        let told = self.message.as_ref().map(|message| message.evaluate(read, read.budget));
        match told {
            Some(Ok(Cel::String(text))) if !text.trim().is_empty() && !text.contains('\n') => {
                text.trim().to_owned()
            }
            _ => self.text.to_string(),
        }
    }
}

/// What a policy objects to: why, and with which reason.
fn objections(
    policy: &Policy<Validations>,
    asked: &Asked,
    others: (&Value, &Value),
) -> Vec<(String, Box<str>)> {
    match policy.holds(asked, others) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(why) => return vec![(why, "Invalid".into())],
    }
    let budget = Budget::new(cost::PER_OBJECT);
    let read = Read::new(&policy.inputs, asked, others, &budget);
    let mut found = Vec::new();
    for validation in &policy.rules.0 {
        let outcome = match &validation.program {
            Ok(program) => program.evaluate(&read, &budget).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match outcome {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => found.push((validation.message(&read), validation.reason.clone())),
            Err(_) if policy.fails_open => {}
            Err(why) => {
                let why = format!("expression '{}' resulted in error: {why}", validation.expression());
                found.push((why, "Invalid".into()));
            }
        }
    }
    found
}

/// Does what a binding wants done about an objection.
fn act(bound: &Bound<Validations>, review: &Review<'_>, why: &str, reason: &str) -> Result<(), Status> {
    let (policy, name) = (&bound.policy.name, &bound.name);
    let does = |action: &str| bound.actions.iter().any(|wanted| **wanted == *action);
    if does("Warn") {
        crate::warning::add(&format!(
            "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{name}': {why}"
        ));
    }
    if !does("Deny") {
        return Ok(());
    }
    let message = format!("ValidatingAdmissionPolicy '{policy}' with binding '{name}' denied request: {why}");
    let mut status = review.forbidden(&message);
    let (reason, code) = REASONS.iter().find(|(known, _)| *known == reason).unwrap_or(&("Invalid", 422));
    status.reason = (*reason).into();
    status.code = *code;
    status.details.get_or_insert_default().causes.push(Cause { message, ..Cause::default() });
    Err(status)
}

impl ValidatingAdmissionPolicies {
    /// Over a server's webhooks, which know how requests are matched.
    pub fn new(webhooks: Arc<Webhooks>, lister: Arc<dyn Lister>, kinds: Arc<Kinds>) -> Self {
        Self(Policies::new(webhooks, lister, kinds))
    }

    /// Asks all: what a request looks like is told once to those that are told it as the same resource.
    async fn ask(&self, all: &[Invocation<'_, Validations>], review: &Review<'_>) -> Result<(), Status> {
        let namespace = self.0.namespace(review);
        let mut known: Option<(&Arc<Resource>, Asked)> = None;
        for Invocation { bound, told, params } in all {
            let params = match params {
                Ok(params) => params,
                Err(why) => {
                    act(bound, review, why, "Invalid")?;
                    continue;
                }
            };
            let asked = match known.take().filter(|(of, _)| of.gvr == told.gvr) {
                Some((_, asked)) => asked,
                None => self.0.webhooks.asked(review, told).await?,
            };
            for (why, reason) in objections(&bound.policy, &asked, (&namespace, params)) {
                act(bound, review, &why, &reason)?;
            }
            known = Some((told, asked));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let Some(bound) = self.0.about(review) else { return Ok(()) };
        let invocations = self.0.invocations(&bound, review).await?;
        self.ask(&invocations, review).await
    }
}
