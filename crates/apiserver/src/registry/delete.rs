//! delete and deletecollection: what a deletion does is decided by a pure function of the object, the options and now.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tiphys_api::apply::folded::Before;
use tiphys_api::{Object, Status, Value};

use super::commit::{self, Commit};
use super::request::{DeleteParams, Deleted, List, ListParams, Propagation, Request};
use super::{Registry, tree};
use crate::cache::Cache;
use crate::cache::splice::with_revision;
use crate::strategy::{self, Rules};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const RETRIES_MAX: usize = 100;
/// Objects of a collection that are deleted at the same time.
const AT_ONCE: usize = 16;

/// What a deletion does to the object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// It is on its way already; nothing changes.
    Pending,
    /// It is marked and lives on.
    Mark(Value),
    /// It goes now.
    Remove,
    /// It goes now, but first it is marked: whoever watches a kind with a grace period sees each deletion begin.
    MarkAndRemove(Value),
}

impl Registry {
    /// Deletes an object.
    pub async fn delete(&self, request: &Request<'_>, params: &DeleteParams) -> Result<Deleted, Status> {
        self.remove_object(request, params, false).await
    }

    /// The same; `admitted` says that admission has judged the action behind the deletion.
    pub(super) async fn remove_object(
        &self,
        request: &Request<'_>,
        params: &DeleteParams,
        admitted: bool,
    ) -> Result<Deleted, Status> {
        let cache = self.cache(request.resource)?;
        let rules = strategy::of(request.resource);
        for _ in 0..RETRIES_MAX {
            self.caches().catch_up().await?;
            let current = cache.get(request.namespace, request.name);
            let current = current.ok_or_else(|| Status::not_found(&request.resource.gvr, request.name))?;
            check_preconditions(request, params, &current)?;
            if !admitted {
                self.admit_delete(request, &current, params).await?;
            }
            match self.attempt_delete(&cache, rules, params, &current).await? {
                Ok(Deleted::Gone(o)) => {
                    let o = self.converter.object(request.resource, &cache.resource, o).await?;
                    return Ok(Deleted::Gone(o));
                }
                Ok(Deleted::Terminating(o)) => {
                    let o = self.converter.object(request.resource, &cache.resource, o).await?;
                    return Ok(Deleted::Terminating(o));
                }
                Err(overtaken) => self.caches().reach(overtaken).await?,
            }
        }
        Err(Status::conflict(
            &request.resource.gvr,
            request.name,
            "too many concurrent changes of this object",
        ))
    }

    /// Deletes what a list selects; answers with the objects as they were.
    pub async fn delete_collection(
        &self,
        request: &Request<'_>,
        select: &ListParams,
        params: &DeleteParams,
    ) -> Result<List, Status> {
        let list = self.list(request, select).await?;
        // Several at once share commits of the store.
        let mut running = FuturesUnordered::new();
        for object in list.items.iter() {
            if running.len() >= AT_ONCE {
                running.next().await.unwrap_or(Ok(()))?;
            }
            running.push(self.delete_listed(request, object, params));
        }
        while let Some(outcome) = running.next().await {
            outcome?;
        }
        drop(running);
        Ok(list)
    }

    /// Deletes one of a collection; one that is gone already is fine.
    async fn delete_listed(
        &self,
        request: &Request<'_>,
        object: &Object,
        params: &DeleteParams,
    ) -> Result<(), Status> {
        let meta = object.meta();
        let one = Request { namespace: &meta.namespace, name: &meta.name, ..*request };
        match self.delete(&one, params).await {
            Err(status) if !status.is("NotFound") => Err(status),
            _ => Ok(()),
        }
    }

    /// The inner error is the revision at which another write was seen to be first.
    async fn attempt_delete(
        &self,
        cache: &Cache,
        rules: &Rules,
        params: &DeleteParams,
        current: &Object,
    ) -> Result<Result<Deleted, u64>, Status> {
        let before = Before::read(current.json()).map_err(Status::internal)?;
        match plan(before.tree().clone(), rules, params, Timestamp::now()) {
            Plan::Pending => Ok(Ok(Deleted::Terminating(current.clone()))),
            Plan::Remove => self.remove_now(cache, params, current).await,
            Plan::MarkAndRemove(tree) => {
                match self.put_marked(cache, params, (&before, current), tree).await? {
                    Commit::Done(marked) => match self.remove_now(cache, params, &marked).await? {
                        Err(overtaken) => self.removed_by_others(cache, marked, overtaken).await,
                        removed => Ok(removed),
                    },
                    Commit::Conflict(revision) => Ok(Err(revision)),
                }
            }
            Plan::Mark(tree) => Ok(match self.put_marked(cache, params, (&before, current), tree).await? {
                Commit::Done(object) => Ok(Deleted::Terminating(object)),
                Commit::Conflict(revision) => Err(revision),
            }),
        }
    }

    /// Who sees the mark, as a kubelet does, may remove the object first: gone it is, as it was asked for.
    async fn removed_by_others(
        &self,
        cache: &Cache,
        marked: Object,
        overtaken: u64,
    ) -> Result<Result<Deleted, u64>, Status> {
        self.caches().reach(overtaken).await?;
        let meta = marked.meta();
        let now = cache.get(&meta.namespace, &meta.name).filter(|now| now.meta().uid == meta.uid);
        Ok(if now.is_some() { Err(overtaken) } else { Ok(Deleted::Gone(marked)) })
    }

    async fn put_marked(
        &self,
        cache: &Cache,
        params: &DeleteParams,
        before: (&Before<'_>, &Object),
        marked: Value,
    ) -> Result<Commit<Object>, Status> {
        let (meta, next) = (before.1.meta(), commit::prepare(cache, marked, Some(before), false)?);
        match params.dry_run {
            true => Ok(Commit::Done(next.imagined(meta.resource_version))),
            false => self.put(cache, (&meta.namespace, &meta.name), next, meta.resource_version).await,
        }
    }

    async fn remove_now(
        &self,
        cache: &Cache,
        params: &DeleteParams,
        current: &Object,
    ) -> Result<Result<Deleted, u64>, Status> {
        let meta = current.meta();
        let removed = match params.dry_run {
            true => Commit::Done(meta.resource_version),
            false => self.remove(cache, (&meta.namespace, &meta.name), meta.resource_version).await?,
        };
        Ok(match removed {
            Commit::Done(revision) => Ok(Deleted::Gone(with_revision(current, revision))),
            Commit::Conflict(revision) => Err(revision),
        })
    }
}

fn check_preconditions(request: &Request<'_>, params: &DeleteParams, current: &Object) -> Result<(), Status> {
    let meta = current.meta();
    let refuse = |what: &str, wanted: &str, found: &str| {
        let why =
            format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        Status::conflict(&request.resource.gvr, request.name, &why)
    };
    if let Some(uid) = params.uid.as_deref().filter(|uid| *uid != meta.uid.as_ref()) {
        return Err(refuse("UID", uid, &meta.uid));
    }
    let found = meta.resource_version.to_string();
    match params.resource_version.as_deref().filter(|version| *version != found) {
        Some(wanted) => Err(refuse("ResourceVersion", wanted, &found)),
        None => Ok(()),
    }
}

/// Decides what a deletion does.
fn plan(mut object: Value, rules: &Rules, params: &DeleteParams, now: Timestamp) -> Plan {
    if let Some(left) = terminating(&object) {
        return shorten(object, left, params);
    }
    let grace = rules.grace.map_or(0, |grace| grace(&object, params.grace_period_seconds));
    set_finalizers(&mut object, rules, params);
    let held = is_held(&object);
    if grace == 0 && !held && rules.grace.is_none() {
        return Plan::Remove;
    }
    mark(&mut object, now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(now), grace);
    (rules.on_delete)(&mut object);
    if grace == 0 && !held { Plan::MarkAndRemove(object) } else { Plan::Mark(object) }
}

/// Whether somebody has still to finish something about the object.
fn is_held(object: &Value) -> bool {
    ["metadata", "spec"].iter().any(|part| !tree::items(object, &[part, "finalizers"]).is_empty())
}

/// The grace period of an object that is already terminating.
fn terminating(object: &Value) -> Option<i64> {
    let metadata = |name| tree::at(object, &["metadata", name]);
    metadata("deletionTimestamp")
        .as_str()
        .map(|_| metadata("deletionGracePeriodSeconds").as_i64().unwrap_or(0))
}

/// A second deletion may only shorten the grace period. One that finds nothing left of it ends what the first began.
fn shorten(mut object: Value, left: i64, params: &DeleteParams) -> Plan {
    let held = is_held(&object);
    if left == 0 && !held {
        return Plan::Remove;
    }
    let Some(wanted) = params.grace_period_seconds.map(|s| s.max(0)).filter(|wanted| *wanted < left) else {
        return Plan::Pending;
    };
    let ends: Option<Timestamp> = tree::text(&object, &["metadata", "deletionTimestamp"]).parse().ok();
    let ends = ends.and_then(|t| t.checked_sub(SignedDuration::from_secs(left - wanted)).ok());
    let metadata = tree::metadata(&mut object);
    if let Some(ends) = ends {
        metadata.insert("deletionTimestamp".into(), tree::time(ends));
    }
    metadata.insert("deletionGracePeriodSeconds".into(), wanted.into());
    if wanted == 0 && !held { Plan::MarkAndRemove(object) } else { Plan::Mark(object) }
}

fn mark(object: &mut Value, ends: Timestamp, grace: i64) {
    let metadata = tree::metadata(object);
    metadata.insert("deletionTimestamp".into(), tree::time(ends));
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|g| *g > 0) {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// The kind's own finalizer, and the garbage collector's as the propagation policy (or what is there already) says.
fn set_finalizers(object: &mut Value, rules: &Rules, params: &DeleteParams) {
    let present = tree::items(object, &["metadata", "finalizers"]);
    let has = |name: &str| present.iter().any(|f| f == name);
    let wanted = match params.propagation {
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Background) => None,
        None if has(ORPHAN) => Some(ORPHAN),
        None if has(FOREGROUND) => Some(FOREGROUND),
        None => rules.orphans.then_some(ORPHAN),
    };
    let others = present.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned();
    let own = rules.holds.filter(|own| !has(own));
    let all: Vec<Value> = others.chain(own.into_iter().chain(wanted).map(Value::from)).collect();
    let all = if all.is_empty() { Value::Null } else { all.into() };
    tree::set(object, &["metadata", "finalizers"], all);
}
