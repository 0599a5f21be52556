//! What a controller did that its cache may not show yet: the guard against doing it twice.
//!
//! - Creations: the cache is fresh for an owner once it has reached the revision of the owner's newest creation. A
//!   controller that would create or count must wait until then; the event that makes it fresh wakes it.
//! - Deletions: a pod that we asked to be deleted counts as deleted, whatever the cache says.
//! - Doubt: a write whose answer was lost may be done. Until the server has told what is there, no cache is fresh.
//!
//! client-go counts expected events and gives up after five minutes; revisions need neither the count nor the timeout.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tiphys_api::{Object, Status};
use tiphys_client::Informer;

#[derive(Default)]
pub(crate) struct Recent {
    owners: Mutex<HashMap<Box<str>, Done>>,
}

#[derive(Default)]
struct Done {
    /// Revision of the newest creation or change.
    revision: u64,
    /// Identities of what was deleted and may still be in the cache.
    deleted: HashSet<Box<str>>,
    /// The answer to a write was lost.
    doubtful: bool,
}

impl Recent {
    /// Remembers a write for an owner.
    pub(crate) fn wrote(&self, owner: &str, object: &Object) {
        let mut owners = self.owners.lock();
        let done = owners.entry(owner.into()).or_default();
        done.revision = done.revision.max(object.meta().resource_version);
    }

    /// Remembers a deletion for an owner.
    pub(crate) fn deleted(&self, owner: &str, uid: &str) {
        self.owners.lock().entry(owner.into()).or_default().deleted.insert(uid.into());
    }

    /// Remembers a write for an owner that failed, if it may be done nevertheless.
    pub(crate) fn failed(&self, owner: &str, status: &Status) {
        if status.code >= 500 {
            self.owners.lock().entry(owner.into()).or_default().doubtful = true;
        }
    }

    /// Whether a write for the owner may be done that no answer told of.
    pub(crate) fn doubtful(&self, owner: &str) -> bool {
        self.owners.lock().get(owner).is_some_and(|done| done.doubtful)
    }

    /// Ends the doubt: what the writes have made, if anything, is no newer than this.
    pub(crate) fn settled(&self, owner: &str, revision: u64) {
        let mut owners = self.owners.lock();
        let done = owners.entry(owner.into()).or_default();
        *done = Done { revision: done.revision.max(revision), doubtful: false, ..std::mem::take(done) };
    }

    /// Whether a cache at this revision shows all that was written for the owner.
    pub(crate) fn fresh(&self, owner: &str, cache: u64) -> bool {
        self.owners.lock().get(owner).is_none_or(|done| done.revision <= cache && !done.doubtful)
    }

    /// Which of the owner's objects were deleted although the cache still has them. `cached` are the identities that the
    /// cache has and shows as not being deleted; the others are forgotten.
    pub(crate) fn still_cached(&self, owner: &str, cached: &HashSet<&str>) -> HashSet<Box<str>> {
        let mut owners = self.owners.lock();
        let Some(done) = owners.get_mut(owner) else { return HashSet::new() };
        done.deleted.retain(|uid| cached.contains(uid.as_ref()));
        done.deleted.clone()
    }

    /// Forgets an owner that is gone.
    pub(crate) fn forget(&self, owner: &str) {
        self.owners.lock().remove(owner);
    }
}

/// What was remembered about an owner goes with it.
pub(crate) fn forget_gone<T: Send + Sync + 'static>(
    owners: &Informer,
    controller: &Arc<T>,
    recent: impl Fn(&T) -> &Recent + Send + Sync + 'static,
) {
    let controller = Arc::downgrade(controller);
    owners.on_change(Box::new(move |old, new| {
        if let (Some(gone), None, Some(controller)) = (old, new, controller.upgrade()) {
            recent(&controller).forget(&gone.meta().uid);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_fresh_once_it_shows_what_was_written() {
        let recent = Recent::default();
        let pod = tiphys_api::json!({"metadata": {"name": "p", "resourceVersion": "7"}});
        assert!(recent.fresh("rs", 0));
        recent.wrote("rs", &Object::from_value(&pod).unwrap());
        assert!(!recent.fresh("rs", 6));
        assert!(recent.fresh("rs", 7));
        assert!(recent.fresh("other", 0));
    }

    #[test]
    fn a_lost_answer_makes_no_cache_fresh_until_the_server_is_asked() {
        let recent = Recent::default();
        recent.failed("rs", &Status::conflict(&tiphys_api::Gvr::new("", "v1", "pods"), "p", "refused"));
        assert!(recent.fresh("rs", 0), "what was refused was not done");
        recent.failed("rs", &Status::unavailable("the connection broke"));
        assert!(recent.doubtful("rs") && !recent.fresh("rs", u64::MAX));
        recent.settled("rs", 9);
        assert!(!recent.doubtful("rs") && !recent.fresh("rs", 8) && recent.fresh("rs", 9));
    }

    #[test]
    fn deletions_are_remembered_until_the_cache_shows_them() {
        let recent = Recent::default();
        recent.deleted("rs", "a");
        recent.deleted("rs", "b");
        assert_eq!(recent.still_cached("rs", &HashSet::from(["a", "c"])), HashSet::from(["a".into()]));
        assert!(recent.still_cached("rs", &HashSet::new()).is_empty());
        assert!(recent.still_cached("rs", &HashSet::from(["a"])).is_empty(), "what was gone is forgotten");
    }
}
