//! One call of one webhook: asked, answered, and what follows when it could not be asked.

use std::sync::Arc;
use std::time::Instant;

use tiphys_api::schema::Resource;
use tiphys_api::{Status, Value};

use super::super::Review;
use super::config::Webhook;
use super::exchange::{self, Answer, Objects, Unusable, Version};
use super::metrics::Failed;
use super::shown::{Shown, is_whole};
use super::{Phase, Webhooks, patched};

/// Why a webhook did not let a request pass.
pub(super) enum Failure {
    /// It could not be asked, or not understood: `failurePolicy` decides. With the code that metrics count it under.
    Calling(String, u16),
    /// It said no.
    Rejected(Status),
    /// What it wants cannot be done.
    Broken(Status),
}

impl Failure {
    pub(super) fn broken(why: impl std::fmt::Display) -> Self {
        Self::Broken(Status::internal(why))
    }
}

impl Webhooks {
    /// Puts a request to a mutating webhook and does what it says; whether that changed the object.
    pub(super) async fn change(
        &self,
        webhook: &Webhook,
        review: &mut Review<'_>,
        told: &Arc<Resource>,
    ) -> Result<bool, Status> {
        let began = Instant::now();
        let outcome = self.changed(webhook, review, told).await;
        let changed = self.settle(webhook, review, (Phase::Admit, began), outcome)?.flatten();
        Ok(match changed {
            Some((object, changed)) => {
                *review.object = object;
                changed
            }
            None => false,
        })
    }

    /// The object as a mutating webhook wants it, in the request's version, and whether it is another; `None` without a patch.
    async fn changed(
        &self,
        webhook: &Webhook,
        review: &Review<'_>,
        told: &Arc<Resource>,
    ) -> Result<Option<(Value, bool)>, Failure> {
        let shown = self.shown(review, told).await.map_err(Failure::Broken)?;
        let answer = self.ask(webhook, review, told, &shown, true).await?;
        let Some(patch) = patched::operations(&answer.patch)? else { return Ok(None) };
        let Some(json) = shown.json else {
            return Err(Failure::broken(format_args!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                webhook.name
            )));
        };
        let kind = is_whole(review).then_some(told);
        let before = (&shown.tree, json.as_slice());
        let (mut tree, changed) = patched::apply(kind, before, &patch, &webhook.name)?;
        self.returned(review, told, &mut tree).await.map_err(Failure::Broken)?;
        Ok(Some((tree, changed)))
    }

    /// Puts a request to a validating webhook.
    pub(super) async fn judge(
        &self,
        webhook: &Webhook,
        review: &Review<'_>,
        told: &Arc<Resource>,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let outcome = match self.shown(review, told).await {
            Ok(shown) => self.ask(webhook, review, told, &shown, false).await,
            Err(status) => Err(Failure::Broken(status)),
        };
        self.settle(webhook, review, (Phase::Validating, began), outcome).map(drop)
    }

    /// Asks, and takes a refusal for a failure.
    async fn ask(
        &self,
        webhook: &Webhook,
        review: &Review<'_>,
        told: &Arc<Resource>,
        shown: &Shown,
        mutating: bool,
    ) -> Result<Answer, Failure> {
        check_dry_run(webhook, review)?;
        let version = Version::of(&webhook.versions).ok_or_else(|| {
            let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            Failure::Calling(format!("could not create admission objects: {why}"), 400)
        })?;
        let uid = uuid::Uuid::new_v4().to_string();
        let objects = Objects { object: shown.json.as_deref(), old: shown.old.as_deref() };
        let question = exchange::question(version, &uid, review, told, &objects).map_err(Failure::broken)?;
        let called = self.caller.call(&webhook.client, question.into(), webhook.timeout).await;
        let body = called
            .map_err(|error| Failure::Calling(format!("failed to call webhook: {error}"), error.code()))?;
        let answer = exchange::answer(&body, version, &uid, mutating).map_err(|unusable| match unusable {
            Unusable::Unreadable(why) => Failure::Calling(format!("failed to call webhook: {why}"), 503),
            Unusable::Wrong(why) => {
                Failure::Calling(format!("received invalid webhook response: {why}"), 503)
            }
        })?;
        answer.warnings.iter().for_each(|text| crate::warning::add(text));
        match answer.allowed {
            true => Ok(answer),
            false => Err(Failure::Rejected(exchange::denial(&webhook.name, answer.status.as_ref()))),
        }
    }

    /// Counts an outcome; a webhook that could not be asked is passed over (`None`) or refuses, as it wishes.
    fn settle<T>(
        &self,
        webhook: &Webhook,
        review: &Review<'_>,
        (phase, began): (Phase, Instant),
        outcome: Result<T, Failure>,
    ) -> Result<Option<T>, Status> {
        let rejected = match &outcome {
            Ok(_) => None,
            Err(Failure::Calling(..)) if webhook.fails_open => None,
            Err(Failure::Calling(_, code)) => Some((Failed::Calling, *code)),
            Err(Failure::Rejected(status)) => Some((Failed::No, status.code)),
            Err(Failure::Broken(status)) => Some((Failed::Internal, status.code)),
        };
        self.metrics.count(&webhook.name, phase, review.operation, began.elapsed(), rejected);
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(Failure::Rejected(status) | Failure::Broken(status)) => Err(status),
            Err(Failure::Calling(why, _)) if webhook.fails_open => {
                self.metrics.passed_over(&webhook.name, phase);
                tracing::warn!(webhook = %webhook.name, why, "a webhook that fails open could not be called");
                Ok(None)
            }
            Err(Failure::Calling(why, _)) => {
                Err(Status::internal(format_args!("failed calling webhook {:?}: {why}", webhook.name)))
            }
        }
    }
}

/// A dry run must leave no trace: only webhooks that promise it are called.
fn check_dry_run(webhook: &Webhook, review: &Review<'_>) -> Result<(), Failure> {
    match (review.dry_run, webhook.dry_runs) {
        (false, _) | (true, Some(true)) => Ok(()),
        (true, None) => Err(Failure::Calling("Webhook SideEffects is nil".to_owned(), 400)),
        (true, Some(false)) => {
            let why = format!("admission webhook {:?} does not support dry run", webhook.name);
            Err(Failure::Broken(Status::bad_request(why)))
        }
    }
}
