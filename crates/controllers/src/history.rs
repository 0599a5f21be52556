//! Revisions of a template as ControllerRevisions, for DaemonSets and StatefulSets; `kubectl rollout history` and `undo`
//! read them.
//!
//! A revision holds the template as a patch. An old template that comes back gets its old revision with a new number.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, DeleteOptions, Informer};

use crate::context::ignore_not_found;
use crate::hash;

/// Label of pods that names their revision.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

/// An owner's revisions, oldest first, and the one of its present template.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) revisions: Vec<ControllerRevision>,
    pub(crate) newest: ControllerRevision,
    /// How often a new revision's name was taken.
    pub(crate) collisions: Option<i32>,
}

/// The template of an owner as its revision keeps it.
pub(crate) fn data(owner: &Object) -> Result<Value, Status> {
    let mut template = owner.value().map_err(Status::internal)?["spec"]["template"].take();
    template["$patch"] = "replace".into();
    Ok(json!({"spec": {"template": template}}))
}

/// The revisions that an owner controls.
pub(crate) fn owned(informer: &Informer, uid: &str) -> Result<Vec<ControllerRevision>, Status> {
    let ours = informer.by_owner(uid);
    let mut revisions: Vec<ControllerRevision> =
        ours.iter().map(decode).collect::<Result<_, _>>().map_err(Status::internal)?;
    revisions.sort_by(|a, b| a.revision.cmp(&b.revision).then_with(|| a.name().cmp(b.name())));
    Ok(revisions)
}

/// Brings the revisions in line with the owner's template. `label` is the one that names a revision's hash.
pub(crate) async fn sync<O: Kind>(
    client: &Arc<dyn Client>,
    owner: &O,
    data: Value,
    mut revisions: Vec<ControllerRevision>,
    label: &str,
    collisions: Option<i32>,
) -> Result<History, Status> {
    let api = Api::<ControllerRevision>::new(client.clone(), owner.namespace());
    let next = revisions.last().map_or(0, |last| last.revision) + 1;
    let equal = revisions
        .iter()
        .rposition(|known| known.data.as_ref().is_some_and(|known| Value::from(known.0.clone()) == data));
    if let Some(at) = equal {
        let mut newest = revisions.remove(at);
        if newest.revision + 1 < next {
            newest.revision = next;
            newest = api.update(&newest).await?;
        }
        revisions.push(newest.clone());
        return Ok(History { revisions, newest, collisions });
    }
    let wanted = compose(owner, data, next, label, collisions);
    match api.create(&wanted).await {
        Ok(newest) => {
            revisions.push(newest.clone());
            Ok(History { revisions, newest, collisions })
        }
        Err(status) if status.is("AlreadyExists") => {
            let known = api.get(wanted.name()).await?;
            if known.data != wanted.data {
                let collisions = Some(collisions.unwrap_or(0) + 1);
                // The caller keeps the count, so the next attempt takes another name.
                return Ok(History { revisions, newest: wanted, collisions });
            }
            revisions.push(known.clone());
            Ok(History { revisions, newest: known, collisions })
        }
        Err(status) => Err(status),
    }
}

fn compose<O: Kind>(
    owner: &O,
    data: Value,
    revision: i64,
    label: &str,
    collisions: Option<i32>,
) -> ControllerRevision {
    let hash = hash::of(&data, collisions);
    let labels = &data["spec"]["template"]["metadata"]["labels"];
    let mut labels: std::collections::BTreeMap<String, String> = labels.to().unwrap_or_default();
    labels.insert(label.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name())),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![owner.controller_reference()]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data.into())),
        revision,
    }
}

/// Deletes the oldest revisions beyond the limit that nothing uses. `live` are names of those in use.
pub(crate) async fn prune<O: Kind>(
    client: &Arc<dyn Client>,
    owner: &O,
    history: &History,
    limit: i32,
    live: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Status> {
    let unused: Vec<_> = history
        .revisions
        .iter()
        .filter(|revision| revision.name() != history.newest.name() && !live(revision))
        .collect();
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let api = Api::<ControllerRevision>::new(client.clone(), owner.namespace());
    for revision in unused.into_iter().take(surplus) {
        ignore_not_found(api.delete(revision.name(), &DeleteOptions::default()).await)?;
    }
    Ok(())
}
