//! One call of one webhook: asked, answered, and what follows when it could not be asked.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use tiphys_api::apply::folded;
use tiphys_api::schema::Resource;
use tiphys_api::{Status, Value};

use super::super::Review;
use super::config::Webhook;
use super::exchange::{self, Answer, Objects, Unusable, Version};
use super::metrics::Failed;
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

/// The objects of a review in the version that a webhook is told about.
struct Shown {
    tree: Value,
    json: Option<Vec<u8>>,
    old: Option<Bytes>,
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
        if let Some(kind) = kind.filter(|kind| kind.gvr != *review.gvr) {
            let converted = self.versions.convert(kind, review.resource, &mut tree).await;
            converted.map_err(Failure::Broken)?;
        }
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

    /// A review's request as a webhook would be told it.
    pub async fn request(&self, review: &Review<'_>, told: &Arc<Resource>) -> Result<Value, Status> {
        let shown = self.shown(review, told).await?;
        let objects = Objects { object: shown.json.as_deref(), old: shown.old.as_deref() };
        let question =
            exchange::question(Version::V1, "", review, told, &objects).map_err(Status::internal)?;
        let mut question = Value::from_json(&question).map_err(Status::internal)?;
        Ok(question["request"].take())
    }

    /// The objects as a webhook is told.
    async fn shown(&self, review: &Review<'_>, told: &Arc<Resource>) -> Result<Shown, Status> {
        let mut tree = (*review.object).clone();
        let json = match tree.is_null() {
            true => None,
            false => {
                self.show(review, told, &mut tree).await?;
                Some(folded::write(&tree).map_err(Status::internal)?)
            }
        };
        let old = match review.old {
            None => None,
            Some(old) => {
                let kind: Kind = old.decode().map_err(Status::internal)?;
                if !is_whole(review) || kind.api_version == told.gvk.api_version() {
                    Some(old.json().clone())
                } else {
                    let mut tree = old.value().map_err(Status::internal)?;
                    self.show(review, told, &mut tree).await?;
                    Some(serde_json::to_vec(&tree).map_err(Status::internal)?.into())
                }
            }
        };
        Ok(Shown { tree, json, old })
    }

    /// Brings an object of whatever version into the one that a webhook is told about.
    async fn show(&self, review: &Review<'_>, told: &Arc<Resource>, tree: &mut Value) -> Result<(), Status> {
        let is = |kind: &Resource, tree: &Value| {
            tree.get("apiVersion").and_then(Value::as_str) == Some(kind.gvk.api_version().as_str())
        };
        if !is_whole(review) || is(told, tree) {
            return Ok(());
        }
        let all = self.versions.of(review.resource);
        match all.iter().find(|kind| is(kind, tree)) {
            Some(from) => self.versions.convert(from, told, tree).await,
            None => Ok(()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kind {
    api_version: String,
}

/// Whether the body is an object of the resource, and not of a kind that a subresource has for itself.
fn is_whole(review: &Review<'_>) -> bool {
    *review.gvk == review.resource.gvk
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
