//! The garbage collector: dependents go with their last owner, orphaned, in the background or before it.
//!
//! - A [`Graph`] of identities is fed by the informers of everything that discovery finds; nothing is ever scanned.
//! - Before anything is deleted, its owners' absence and its own references are checked with the API server: a cache may
//!   be late or a reference may name what the cache does not follow.
//! - What cannot be listed (an extension that is down) holds nothing up for long but orphaning: whose dependents are not all
//!   known is not let go before them, or they would be collected for want of an owner.
//! - [`decide`] holds the rules, this file the requests.

mod decide;
mod graph;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiphys_api::{Gvr, Object, OwnerRef, Status};
use tiphys_client::{Client, DeleteOptions, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Outcome, ignore_not_found};
use crate::resources::{Found, Resources, Served};
use decide::{Owner, Verdict};
use graph::{FOREGROUND, Graph, Node, ORPHAN, Place, Uid, Work};

/// Absent owners that are remembered, to ask once for a thousand dependents.
const ABSENT_MAX: usize = 4096;
/// Events have owners nobody asks about, and come in masses.
const IGNORED: [&str; 1] = ["events"];
/// How long the first lists may take. One that fails for good (an extension that is down, a conversion that does not answer)
/// must not keep all else; its dependents are collected when they are seen. Kubernetes' own limit.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// When orphaning that waits for a list looks again.
const ORPHAN_AGAIN: Duration = Duration::from_secs(10);

/// A followed resource.
type Monitor = (Arc<Served>, Arc<Informer>);

struct Collector {
    client: Arc<dyn Client>,
    resources: Resources,
    graph: Mutex<Graph>,
    monitors: Mutex<HashMap<Gvr, Monitor>>,
    absent: Mutex<HashSet<Box<str>>>,
    queue: Arc<WorkQueue<Work>>,
}

/// Runs the collector until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let collector = Arc::new(Collector {
        client: context.client("generic-garbage-collector"),
        resources: context.resources.clone(),
        graph: Mutex::default(),
        monitors: Mutex::default(),
        absent: Mutex::default(),
        queue: WorkQueue::named("garbage_collector_attempt_to_delete"),
    });
    let monitoring = monitor(collector.clone(), context.clone());
    let queue = collector.queue.clone();
    let reconcile = {
        let collector = collector.clone();
        move |work| {
            let collector = collector.clone();
            async move { collector.reconcile(work).await }
        }
    };
    let working = async {
        context.resources.ready().await;
        // What was found may not be followed yet.
        collector.follow(&context, &context.resources.now());
        collector.synced().await;
        context.work(queue, context.config.workers * 4, &[], reconcile).await;
    };
    tokio::select! { () = monitoring => {}, () = working => {}, () = context.stop.cancelled() => {} }
}

/// Follows every collectable resource, as discovery finds them.
async fn monitor(collector: Arc<Collector>, context: Arc<Context>) {
    let mut resources = context.resources.clone();
    let mut found = resources.now();
    loop {
        collector.follow(&context, &found);
        found = resources.changed().await;
    }
}

impl Collector {
    fn follow(self: &Arc<Self>, context: &Context, found: &Found) {
        let wanted = |s: &&Arc<Served>| s.collectable && !IGNORED.contains(&s.gvr.resource.as_ref());
        let mut gone: HashSet<Gvr> = self.monitors.lock().keys().cloned().collect();
        for served in found.served.iter().filter(wanted) {
            if gone.remove(&served.gvr) || self.monitors.lock().contains_key(&served.gvr) {
                continue;
            }
            let informer = context.informers.of(&served.gvr);
            self.monitors.lock().insert(served.gvr.clone(), (served.clone(), informer.clone()));
            let (weak, resource) = (Arc::downgrade(self), served.clone());
            informer.on_change(Box::new(move |old, new| {
                if let Some(collector) = weak.upgrade() {
                    collector.change(&resource, old, new);
                }
            }));
        }
        // What did not answer is not gone.
        gone.retain(|gvr| !found.failed.iter().any(|(group_version, _)| *group_version == gvr.api_version()));
        for gvr in gone {
            context.informers.forget(&gvr);
            let Some((served, _)) = self.monitors.lock().remove(&gvr) else { continue };
            let uids = self.graph.lock().of_resource(&served);
            let work: Vec<Work> = uids.iter().flat_map(|uid| self.graph.lock().remove(uid)).collect();
            work.into_iter().for_each(|work| self.queue.add(work));
        }
    }

    /// Waits for the first lists of what is followed, but not for ever.
    async fn synced(&self) {
        let informers: Vec<_> = self.monitors.lock().values().map(|(_, informer)| informer.clone()).collect();
        let all = futures::future::join_all(informers.iter().map(|informer| informer.synced()));
        if tokio::time::timeout(FIRST_LISTS, all).await.is_err() {
            let missing = self.unlisted().join(", ");
            tracing::warn!(resources = missing, "collecting without these, which cannot be listed");
        }
    }

    /// Feeds the graph with a change of one object.
    fn change(&self, resource: &Arc<Served>, old: Option<&Object>, new: Option<&Object>) {
        let work = match (old, new) {
            (_, Some(new)) => {
                let meta = new.meta();
                let mut graph = self.graph.lock();
                if !graph.concerns(meta) {
                    return;
                }
                let place = || Place {
                    resource: resource.clone(),
                    namespace: meta.namespace.clone(),
                    name: meta.name.clone(),
                };
                let known =
                    |at: usize| meta.owners.get(at).is_some_and(|owner| self.cached(meta, owner).is_some());
                graph.observe(place, meta, known)
            }
            (Some(gone), None) => {
                let uid = &gone.meta().uid;
                let work = self.graph.lock().remove(uid);
                if !work.is_empty() {
                    self.note_absent(uid);
                }
                work
            }
            (None, None) => return,
        };
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    fn note_absent(&self, uid: &str) {
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(uid.into());
    }

    /// An owner as its informer has it.
    fn cached(&self, dependent: &tiphys_api::Meta, owner: &OwnerRef) -> Option<Object> {
        let found = self.resources.now();
        let served = found.by_kind(&owner.api_version, &owner.kind)?;
        let namespace = if served.namespaced { dependent.namespace.as_ref() } else { "" };
        let informer = self.monitors.lock().get(&served.gvr)?.1.clone();
        informer.get(namespace, &owner.name).filter(|object| object.meta().uid == owner.uid)
    }

    async fn reconcile(&self, work: Work) -> Outcome {
        match work {
            Work::Delete(uid) => self.attempt(&uid).await?,
            Work::Orphan(_) if !self.unlisted().is_empty() => return Ok(Some(ORPHAN_AGAIN)),
            Work::Orphan(uid) => self.orphan(&uid).await?,
        }
        Ok(None)
    }

    /// What is followed, but could not be listed so far.
    fn unlisted(&self) -> Vec<String> {
        let monitors = self.monitors.lock();
        let missing = monitors.values().filter(|(_, informer)| !informer.has_synced());
        missing.map(|(served, _)| served.gvr.group_resource()).collect()
    }

    /// The object's place, and what the graph says about it.
    fn look<T>(&self, uid: &str, read: impl FnOnce(&Node) -> T) -> Option<(Place, T)> {
        let graph = self.graph.lock();
        let node = graph.get(uid)?;
        Some((node.place.clone()?, read(node)))
    }

    /// The object itself, from the API server; `None` if it is gone or another has its name.
    async fn live(&self, place: &Place, uid: &str) -> Result<Option<Object>, Status> {
        match self.client.get(&target(place)).await {
            Ok(object) => Ok(Some(object).filter(|object| *object.meta().uid == *uid)),
            Err(status) if status.is("NotFound") => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Deletes the object if it has lost its last owner, or goes on with its own deletion.
    async fn attempt(&self, uid: &Uid) -> Result<(), Status> {
        let Some((place, (deleting, foreground))) = self.look(uid, |node| (node.deleting, node.foreground))
        else {
            return Ok(());
        };
        if deleting && !foreground {
            return Ok(());
        }
        // Gone means that its event is on the way.
        let Some(object) = self.live(&place, uid).await? else { return Ok(()) };
        if foreground {
            return self.finish_foreground(uid, &place, &object).await;
        }
        let meta = object.meta();
        if meta.deleted.is_some() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in &meta.owners {
            owners.push(self.state(&place, owner).await?);
        }
        let (dependents, waiting) = self.dependents(uid);
        match decide::verdict(meta, &owners, dependents, waiting) {
            Verdict::Keep => Ok(()),
            Verdict::Unreference(kept) => {
                self.patch(&place, &decide::owners_patch(meta, kept.iter())).await.map(drop)
            }
            Verdict::Delete { propagation, unblock } => {
                self.delete(&place, &object, propagation, unblock).await
            }
        }
    }

    /// How many dependents an object has, and whether one of them is itself waiting for its dependents.
    fn dependents(&self, uid: &str) -> (usize, bool) {
        let graph = self.graph.lock();
        let Some(node) = graph.get(uid) else { return (0, false) };
        let waiting = |uid: &Uid| graph.get(uid).is_some_and(|node| node.foreground);
        (node.dependents.len(), node.dependents.iter().any(waiting))
    }

    async fn delete(
        &self,
        place: &Place,
        object: &Object,
        propagation: &'static str,
        unblock: bool,
    ) -> Result<(), Status> {
        let mut object = object.clone();
        if unblock && object.meta().owners.iter().any(|owner| owner.block_owner_deletion) {
            let meta = object.meta();
            let freed: Vec<OwnerRef> =
                meta.owners.iter().map(|o| OwnerRef { block_owner_deletion: false, ..o.clone() }).collect();
            match self.patch(place, &decide::owners_patch(meta, freed.iter())).await? {
                Some(patched) => object = patched,
                None => return Ok(()),
            }
        }
        let meta = object.meta();
        let options = DeleteOptions {
            propagation: Some(propagation),
            // A reference added meanwhile must count.
            resource_version: Some(meta.resource_version),
            ..DeleteOptions::of(meta)
        };
        let result = self.client.delete(&target(place), &options).await;
        ignore_not_found(result.map(drop))
    }

    /// Lets an object go once no dependent holds it up, and sees to those that do.
    async fn finish_foreground(&self, uid: &Uid, place: &Place, object: &Object) -> Result<(), Status> {
        let meta = object.meta();
        if meta.deleted.is_none() || !meta.finalizers.iter().any(|f| **f == *FOREGROUND) {
            return Ok(());
        }
        let blockers = self.graph.lock().blockers(uid);
        if blockers.is_empty() {
            return self.patch(place, &decide::finalizer_patch(meta, FOREGROUND)).await.map(drop);
        }
        for blocker in blockers {
            if self.look(&blocker, |node| node.deleting).is_some_and(|(_, deleting)| !deleting) {
                self.queue.add(Work::Delete(blocker));
            }
        }
        Ok(())
    }

    /// How an owner stands: from the cache when it is there, from the API server when it seems to be gone.
    async fn state(&self, dependent: &Place, owner: &OwnerRef) -> Result<Owner, Status> {
        if self.absent.lock().contains(&owner.uid) {
            return Ok(Owner::Absent);
        }
        let found = self.resources.now();
        let Some(served) = found.by_kind(&owner.api_version, &owner.kind) else {
            // It may be served later, or its API may be down: nothing is known about the owner.
            return Err(Status::unavailable(format!(
                "kind {} of {} is not served",
                owner.kind, owner.api_version
            )));
        };
        if served.namespaced && dependent.namespace.is_empty() {
            // A cluster-scoped object cannot have such an owner; deleting it for that would be wrong.
            return Ok(Owner::Solid);
        }
        let namespace = if served.namespaced { dependent.namespace.clone() } else { "".into() };
        let informer = self.monitors.lock().get(&served.gvr).map(|(_, informer)| informer.clone());
        let cached = informer.and_then(|informer| informer.get(&namespace, &owner.name));
        let place = Place { resource: served.clone(), namespace, name: owner.name.clone() };
        let object = match cached.filter(|object| object.meta().uid == owner.uid) {
            Some(object) => object,
            None => match self.live(&place, &owner.uid).await? {
                Some(object) => object,
                None => {
                    self.note_absent(&owner.uid);
                    return Ok(Owner::Absent);
                }
            },
        };
        let meta = object.meta();
        let waiting = meta.deleted.is_some() && meta.finalizers.iter().any(|f| **f == *FOREGROUND);
        Ok(if waiting { Owner::Waiting } else { Owner::Solid })
    }

    /// Takes an owner out of its dependents' references, then lets it go.
    async fn orphan(&self, uid: &Uid) -> Result<(), Status> {
        let Some((place, dependents)) = self.look(uid, |node| node.dependents.clone()) else { return Ok(()) };
        for dependent in dependents {
            let Some((at, ())) = self.look(&dependent, |_| ()) else { continue };
            let Some(object) = self.live(&at, &dependent).await? else { continue };
            let meta = object.meta();
            let others = meta.owners.iter().filter(|owner| *owner.uid != **uid);
            if others.clone().count() < meta.owners.len() {
                self.patch(&at, &decide::owners_patch(meta, others)).await?;
            }
        }
        let Some(object) = self.live(&place, uid).await? else { return Ok(()) };
        if object.meta().finalizers.iter().any(|f| **f == *ORPHAN) {
            self.patch(&place, &decide::finalizer_patch(object.meta(), ORPHAN)).await?;
        }
        Ok(())
    }

    async fn patch(&self, place: &Place, patch: &tiphys_api::Value) -> Result<Option<Object>, Status> {
        let body = patch.to_string().into();
        let patched =
            self.client.patch(&target(place), PatchKind::Merge, body, &WriteOptions::default()).await;
        ignore_not_found(patched.map(Some))
    }
}

fn target(place: &Place) -> Target {
    Target::new(&place.resource.gvr, &place.namespace, &place.name)
}
