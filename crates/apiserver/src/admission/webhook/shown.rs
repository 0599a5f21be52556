//! The objects of a request as a webhook or policy is told of them: in the version that its rules name, and back.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tiphys_api::apply::folded;
use tiphys_api::schema::Resource;
use tiphys_api::{Status, Value};

use super::super::Review;
use super::super::authority::Asker;
use super::exchange::{self, Objects, Version};
use super::{Webhooks, patched};

/// The objects of a review in the version that a webhook is told about.
#[derive(Default)]
pub(super) struct Shown {
    pub tree: Value,
    pub json: Option<Vec<u8>>,
    pub old: Option<Bytes>,
}

/// What expressions read of a request.
pub struct Asked {
    shown: Shown,
    /// The object as JSON; null where there is none.
    pub object: Value,
    /// The same of the object as it is stored.
    pub old: Value,
    /// The request without its objects.
    pub request: Value,
    /// Who asks, and what else they may do.
    pub asker: Asker,
}

impl Asked {
    /// Of an AdmissionReview's request.
    pub(super) fn of(mut request: Value, shown: Shown, asker: Asker) -> Self {
        let [object, old] = ["object", "oldObject"].map(|name| request[name].take());
        Self { shown, object, old, request, asker }
    }
}

impl Webhooks {
    /// A review's request as expressions read it.
    pub async fn asked(&self, review: &Review<'_>, told: &Arc<Resource>) -> Result<Asked, Status> {
        let shown = self.shown(review, told).await?;
        let objects = Objects { object: shown.json.as_deref(), old: shown.old.as_deref() };
        let question =
            exchange::question(Version::V1, "", review, told, &objects).map_err(Status::internal)?;
        let mut question = Value::from_json(&question).map_err(Status::internal)?;
        Ok(Asked::of(question["request"].take(), shown, Asker::new(self.authorizer.clone(), review)))
    }

    /// The object of a request in the request's version, after somebody (`who`) made of what they were told what they wanted.
    pub async fn rewritten(
        &self,
        review: &Review<'_>,
        told: &Arc<Resource>,
        asked: &Asked,
        wanted: &Value,
        who: &str,
    ) -> Result<Value, Status> {
        let kind = is_whole(review).then_some(told);
        let changed = patched::settled(kind, &asked.shown.tree, &asked.object, wanted, who);
        let (mut tree, _) = changed.map_err(Status::internal)?;
        self.returned(review, told, &mut tree).await?;
        Ok(tree)
    }

    /// Brings an object from the version that a webhook was told about into the request's.
    pub(super) async fn returned(
        &self,
        review: &Review<'_>,
        told: &Arc<Resource>,
        tree: &mut Value,
    ) -> Result<(), Status> {
        if !is_whole(review) || told.gvr == *review.gvr {
            return Ok(());
        }
        self.versions.convert(told, review.resource, tree).await
    }

    /// The objects as a webhook is told.
    pub(super) async fn shown(&self, review: &Review<'_>, told: &Arc<Resource>) -> Result<Shown, Status> {
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
pub fn is_whole(review: &Review<'_>) -> bool {
    *review.gvk == review.resource.gvk
}
