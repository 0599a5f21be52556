//! Follows the definitions and keeps caches, what is served, and their status in step with them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tiphys_api::schema::Resource;
use tiphys_api::structural::{self, Version};
use tiphys_api::{Gvr, Object, Status, Value};
use tiphys_client::{Client, Target, WriteOptions};
use tokio_util::sync::CancellationToken;

use super::status;
use crate::auth::User;
use crate::kinds::Kinds;
use crate::registry::{DeleteParams, Registry, Request, tree};
use crate::strategy::definition::CLEANUP;

const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// After a failure that no event will tell the end of, it is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Why custom resources cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer.
    #[error("custom resources cannot be read: {0}")]
    Store(#[from] tiphys_store::Error),
}

/// Keeps custom resources.
pub struct Customs {
    registry: Arc<Registry>,
    kinds: Arc<Kinds>,
    client: Arc<dyn Client>,
    /// By uid of their definitions.
    known: Mutex<HashMap<Box<str>, Known>>,
    stop: CancellationToken,
}

/// A definition as it was last seen.
#[derive(Clone)]
struct Known {
    revision: u64,
    tree: Arc<Value>,
    versions: Vec<Version>,
    /// Its objects are being deleted.
    emptying: bool,
}

impl Customs {
    /// Serves what is established; afterwards follows the definitions until `stop`. `client` writes their status.
    pub async fn start(
        registry: Arc<Registry>,
        client: Arc<dyn Client>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let kinds = registry.kinds().clone();
        let customs = Arc::new(Self { registry, kinds, client, known: Mutex::default(), stop });
        customs.serve().await?;
        tokio::spawn(customs.follow());
        Ok(())
    }

    async fn follow(self: Arc<Self>) {
        let Some(cache) = self.registry.caches().of(&DEFINITIONS) else { return };
        let mut changes = cache.changes();
        loop {
            changes.borrow_and_update();
            let done = self.pass().await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = again(!done) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Serves, and says so; returns whether the store let it.
    async fn pass(self: &Arc<Self>) -> bool {
        if let Err(error) = self.serve().await {
            tracing::warn!(%error, "custom resources are served as they were");
            return false;
        }
        let all = self.known();
        for (known, judged) in all.iter().zip(judge(&all)) {
            self.tell(known, judged).await;
            if status::is_ending(&known.tree) {
                self.empty(known.clone());
            }
        }
        true
    }

    /// All definitions, the oldest first.
    fn known(&self) -> Vec<Known> {
        let mut all: Vec<Known> = self.known.lock().values().cloned().collect();
        let age = |known: &Known| tree::text(&known.tree, &["metadata", "creationTimestamp"]).to_owned();
        all.sort_by_cached_key(|known| (age(known), known.name().to_owned()));
        all
    }

    /// Brings caches and what is served to what the definitions say.
    async fn serve(&self) -> Result<(), Error> {
        self.read();
        let all = self.known();
        let caches = self.registry.caches();
        let (mut served, mut stored) = (Vec::new(), Vec::new());
        for (known, judged) in all.iter().zip(judge(&all)) {
            if !status::is_true(&tiphys_api::json!({ "status": judged }), "Established") {
                continue;
            }
            for version in &known.versions {
                if version.storage {
                    caches.put(&version.resource).await?;
                    stored.push(version.resource.gvr.clone());
                }
            }
            let offered = known.versions.iter().filter(|version| version.served);
            served.extend(offered.map(|version| version.resource.clone()));
        }
        self.kinds.set_custom(served);
        let gone =
            caches.custom().into_iter().filter(|gvr| !stored.iter().any(|kept| same_objects(kept, gvr)));
        gone.for_each(|gvr| caches.remove(&gvr));
        Ok(())
    }

    /// Compiles what is new.
    fn read(&self) {
        let Some(cache) = self.registry.caches().of(&DEFINITIONS) else { return };
        let objects = cache.all("");
        let mut known = self.known.lock();
        known.retain(|uid, _| objects.iter().any(|object| object.meta().uid == *uid));
        for object in objects {
            let revision = object.meta().resource_version;
            let before = known.get(&object.meta().uid);
            if before.is_some_and(|known| known.revision == revision) {
                continue;
            }
            match compile(&object, before) {
                Ok(next) => drop(known.insert(object.meta().uid.clone(), next)),
                Err(error) => tracing::error!(%error, definition = %object.meta().name, "skipped"),
            }
        }
    }

    /// Writes a definition's status if it says something else.
    async fn tell(&self, known: &Known, judged: Value) {
        if known.tree.get("status") == Some(&judged) {
            return;
        }
        let mut next = (*known.tree).clone();
        tree::set(&mut next, &["status"], judged);
        let target = Target::new(&DEFINITIONS, "", tree::text(&next, &["metadata", "name"])).sub("status");
        self.write(&target, &next).await;
    }

    async fn write(&self, target: &Target, object: &Value) {
        let body = object.to_string().into();
        match self.client.update(target, body, &WriteOptions::default()).await {
            Ok(_) => {}
            // Whoever was faster has changed the definition, which is looked at again.
            Err(error) if error.is("Conflict") || error.is("NotFound") => {}
            Err(error) => {
                tracing::warn!(error = %error.message, definition = %target.name, "a definition's status is not written");
            }
        }
    }

    /// Deletes a definition's objects, and lets it go when they are gone.
    fn empty(self: &Arc<Self>, known: Known) {
        let uid: Box<str> = tree::text(&known.tree, &["metadata", "uid"]).into();
        let mut all = self.known.lock();
        let Some(entry) = all.get_mut(&uid).filter(|entry| !entry.emptying) else { return };
        entry.emptying = true;
        let customs = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = customs.delete_and_let_go(&known, &uid) => {}
                () = customs.stop.cancelled() => {}
            }
        });
    }

    async fn delete_and_let_go(&self, known: &Known, uid: &str) {
        self.delete_objects(known).await;
        self.let_go(uid).await;
    }

    async fn delete_objects(&self, known: &Known) {
        let Some(stored) = known.versions.iter().find(|version| version.storage) else { return };
        loop {
            // Another one takes its place when the definition changes.
            let Some(cache) = self.registry.caches().of(&stored.resource.gvr) else { return };
            let mut changes = cache.changes();
            changes.borrow_and_update();
            let left = cache.all("");
            if left.is_empty() {
                return;
            }
            let mut refused = false;
            for object in left.iter().filter(|object| object.meta().deleted.is_none()) {
                if let Err(error) = self.delete(&stored.resource, object).await {
                    refused = true;
                    tracing::warn!(error = %error.message, object = %object.meta().name, "not deleted with its definition");
                }
            }
            // Those with finalizers go when their owners let them; whoever refuses a deletion does not say when no more.
            tokio::select! {
                _ = changes.changed() => {}
                () = again(refused || cache.is_closed()) => {}
            }
        }
    }

    async fn delete(&self, resource: &Arc<Resource>, object: &Object) -> Result<(), Status> {
        let (meta, user) = (object.meta(), User::apiserver());
        let request =
            Request { resource, namespace: &meta.namespace, name: &meta.name, subresource: "", user: &user };
        match self.registry.delete(&request, &DeleteParams::default()).await {
            Err(error) if !error.is("NotFound") => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the finalizer away.
    async fn let_go(&self, uid: &str) {
        loop {
            let Some(known) = self.known.lock().get(uid).cloned() else { return };
            let mut next = (*known.tree).clone();
            let mut finalizers = tree::items(&next, &["metadata", "finalizers"]).to_vec();
            finalizers.retain(|finalizer| finalizer != CLEANUP);
            tree::set(&mut next, &["metadata", "finalizers"], finalizers.into());
            let target = Target::new(&DEFINITIONS, "", tree::text(&next, &["metadata", "name"]));
            let body = next.to_string().into();
            match self.client.update(&target, body, &WriteOptions::default()).await {
                Err(error) if error.is("Conflict") => self.read_again().await,
                Err(error) if !error.is("NotFound") => {
                    tracing::warn!(error = %error.message, definition = %target.name, "not let go");
                    again(true).await;
                    self.read_again().await;
                }
                _ => return,
            }
        }
    }

    /// Reads what was written meanwhile.
    async fn read_again(&self) {
        if let Err(error) = self.registry.caches().catch_up().await {
            tracing::debug!(error = %error.message, "the caches did not catch up");
        }
        self.read();
    }
}

/// The time after which what failed is tried again; never, if nothing did.
async fn again(failed: bool) {
    match failed {
        true => tokio::time::sleep(AGAIN).await,
        false => std::future::pending().await,
    }
}

/// The status that each of all definitions should have, in their order: who comes first is granted a name first.
fn judge(all: &[Known]) -> Vec<Value> {
    let mut groups: HashMap<&str, Vec<(&str, Value)>> = HashMap::new();
    for known in all {
        let granted = tree::at(&known.tree, &["status", "acceptedNames"]).clone();
        groups.entry(known.group()).or_default().push((known.name(), granted));
    }
    let now = Timestamp::now();
    let judge = |known: &Known| {
        let group = groups.get_mut(known.group()).map_or(&mut [][..], Vec::as_mut_slice);
        let others = group.iter().filter(|(name, _)| *name != known.name());
        let status = status::judge(&known.tree, others.map(|(_, names)| names), now);
        for (_, names) in group.iter_mut().filter(|(name, _)| *name == known.name()) {
            names.clone_from(tree::at(&status, &["acceptedNames"]));
        }
        status
    };
    all.iter().map(judge).collect()
}

impl Known {
    fn group(&self) -> &str {
        tree::text(&self.tree, &["spec", "group"])
    }

    fn name(&self) -> &str {
        tree::text(&self.tree, &["metadata", "name"])
    }
}

fn compile(object: &Object, before: Option<&Known>) -> Result<Known, serde_json::Error> {
    let tree = object.value()?;
    let unchanged = before.filter(|before| compiles_alike(&before.tree, &tree));
    let versions = unchanged.map_or_else(
        || structural::versions(&tree, &super::rules::compile),
        |before| before.versions.clone(),
    );
    let emptying = before.is_some_and(|before| before.emptying);
    Ok(Known { revision: object.meta().resource_version, tree: Arc::new(tree), versions, emptying })
}

/// Most changes are of conditions.
fn compiles_alike(a: &Value, b: &Value) -> bool {
    let parts: [&[&str]; 3] = [&["spec"], &["status", "acceptedNames"], &["metadata", "deletionTimestamp"]];
    parts.iter().all(|part| tree::at(a, part) == tree::at(b, part))
}

fn same_objects(a: &Gvr, b: &Gvr) -> bool {
    a.group == b.group && a.resource == b.resource
}
