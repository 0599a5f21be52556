//! API aggregation: group-versions that another server answers, behind a Service that an APIService names.
//!
//! - A request for such a group-version is authenticated and authorized as any other and then passed on ([`proxy`]) with the
//!   front proxy's certificate. Where there is no such APIService, nothing here costs anything: one look at an empty list.
//! - Each is followed by a task of its own ([`watch`]), which says in the APIService's status whether it can be asked
//!   ([`available`]) and keeps what it serves for the discovery documents ([`merge`]).
//! - What is served here is registered, too ([`register`]), with kube-apiserver's priorities ([`priorities`]).

pub mod available;
pub mod extension;
mod fetch;
mod identity;
pub mod merge;
pub mod priorities;
mod proxy;
mod register;
pub mod service;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::{Client, Informers};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::auth::{Lister, User};
use crate::http::path::RequestInfo;
use crate::kinds::Kinds;
use crate::pki::Pair;
use available::Finding;
use extension::Extension;
use merge::{Found, Shown};
pub use proxy::{AsUser, pass};
use service::{API_SERVICES, ApiService};
use watch::Watcher;

/// After a refusal, what is registered is put right again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// All extension servers.
pub struct Aggregator {
    lister: Arc<dyn Lister>,
    identity: Pair,
    extensions: ArcSwap<Vec<Arc<Extension>>>,
    generation: Arc<AtomicU64>,
}

impl Aggregator {
    /// Knows no extension server yet. `identity` is shown to them.
    pub fn new(lister: Arc<dyn Lister>, identity: Pair) -> Arc<Self> {
        Arc::new(Self { lister, identity, extensions: ArcSwap::default(), generation: Arc::default() })
    }

    /// Who answers a request, if it is not for this server.
    pub fn of(&self, info: &RequestInfo) -> Option<Arc<Extension>> {
        let extensions = self.extensions.load();
        if extensions.is_empty() {
            return None;
        }
        let (group, version) = match info.is_resource {
            true => (info.group.as_str(), info.version.as_str()),
            false => group_version(&info.path)?,
        };
        find(&extensions, group, version).cloned()
    }

    /// Who answers requests for a resource on behalf of a user, if it is not this server.
    pub fn client(&self, gvr: &Gvr, user: &User) -> Option<AsUser> {
        let extensions = self.extensions.load();
        let extension = find(&extensions, &gvr.group, &gvr.version)?.clone();
        Some(AsUser { extension, user: user.clone() })
    }

    /// A number that changes when what discovery shows does.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What discovery shows besides what is served here.
    pub fn shown(&self) -> Vec<Shown> {
        self.extensions.load().iter().map(|extension| extension.shown()).collect()
    }

    /// Takes note of all APIServices.
    fn route(&self, services: &[Object]) {
        let old = self.extensions.load_full();
        let mut new: Vec<_> = services.iter().filter_map(|object| self.extension(object, &old)).collect();
        new.sort_by(|a, b| a.name.cmp(&b.name));
        let same = |(a, b): (&Arc<Extension>, &Arc<Extension>)| Arc::ptr_eq(a, b);
        if new.len() != old.len() || !new.iter().zip(old.iter()).all(same) {
            self.extensions.store(new.into());
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// What an APIService leads to: the same as before as long as it says the same.
    fn extension(&self, object: &Object, old: &[Arc<Extension>]) -> Option<Arc<Extension>> {
        let service: ApiService = object.decode().ok()?;
        let name = object.meta().name.as_ref();
        if service.spec.group == API_SERVICES.group {
            // Where others are registered is nobody else's business.
            return None;
        }
        let known = old.iter().find(|known| known.name == *name);
        if let Some(known) = known.filter(|known| known.spec == service.spec) {
            known.set_available(service.is_available());
            return Some(known.clone());
        }
        let new = Extension::new(name, &service, &self.identity, &self.lister)?;
        if let Some(known) = known {
            // It moved, perhaps, but serves the same until it tells.
            new.set_found(Found::clone(&known.found()));
        }
        Some(new.into())
    }

    /// Registers what is served here, once, before anybody asks. `client` acts as the API server itself.
    pub async fn start(&self, client: &dyn Client, kinds: &Kinds) -> Result<(), Status> {
        let present = self.lister.list(&API_SERVICES, "");
        self.put_right(client, &kinds.group_versions(), &present, true).await?;
        self.route(&present);
        Ok(())
    }

    /// Follows APIServices and keeps those of what is served here, until `stop`.
    pub async fn run(self: Arc<Self>, client: Arc<dyn Client>, kinds: Arc<Kinds>, stop: CancellationToken) {
        let follow = self.follow(client, &kinds);
        tokio::select! { () = follow => {}, () = stop.cancelled() => {} }
    }

    async fn follow(&self, client: Arc<dyn Client>, kinds: &Kinds) {
        let informers = Informers::new(client.clone());
        let services = informers.of(&API_SERVICES);
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        services.on_change(Box::new(move |_, _| notify.notify_one()));
        services.synced().await;
        let (mut watched, mut served) = (HashMap::new(), kinds.changes());
        loop {
            let present = services.list("");
            self.route(&present);
            self.watch(&client, &mut watched);
            served.borrow_and_update();
            match self.put_right(client.as_ref(), &kinds.group_versions(), &present, false).await {
                Ok(()) => tokio::select! { () = changed.notified() => {}, _ = served.changed() => {} },
                Err(status) => {
                    tracing::warn!(%status, "an APIService could not be put right");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn put_right(
        &self,
        client: &dyn Client,
        served: &[(String, String)],
        present: &[Object],
        first: bool,
    ) -> Result<(), Status> {
        register::reconcile(client, served, present, first).await?;
        for object in present {
            let service: ApiService = object.decode().map_err(Status::internal)?;
            if service.spec.service.is_none() {
                watch::report(client, self.lister.as_ref(), &object.meta().name, &Finding::local()).await?;
            }
        }
        Ok(())
    }

    /// Starts to follow what is new, and stops for what is gone.
    fn watch(&self, client: &Arc<dyn Client>, watched: &mut Watched) {
        let extensions = self.extensions.load_full();
        watched.retain(|_, (known, _)| extensions.iter().any(|extension| Arc::ptr_eq(extension, known)));
        for extension in extensions.iter() {
            if watched.contains_key(&extension.name) {
                continue;
            }
            let watcher = Watcher {
                extension: extension.clone(),
                client: client.clone(),
                lister: self.lister.clone(),
                generation: self.generation.clone(),
            };
            let task = AbortOnDropHandle::new(tokio::spawn(watcher.run()));
            watched.insert(extension.name.clone(), (extension.clone(), task));
        }
    }
}

/// Those that are followed, by the APIService's name.
type Watched = HashMap<String, (Arc<Extension>, AbortOnDropHandle<()>)>;

fn find<'e>(extensions: &'e [Arc<Extension>], group: &str, version: &str) -> Option<&'e Arc<Extension>> {
    extensions.iter().find(|extension| extension.spec.version == version && extension.spec.group == group)
}

/// The group-version that a path is about, where it is no resource's.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/openapi/v3").unwrap_or(path).trim_end_matches('/');
    match path.strip_prefix("/api/") {
        Some(version) => (!version.contains('/')).then_some(("", version)),
        None => path.strip_prefix("/apis/")?.split_once('/').filter(|(_, version)| !version.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_whose_they_are() {
        for (path, expected) in [
            ("/apis/apps/v1", Some(("apps", "v1"))),
            ("/apis/apps/v1/", Some(("apps", "v1"))),
            ("/api/v1", Some(("", "v1"))),
            ("/openapi/v3/apis/apps/v1", Some(("apps", "v1"))),
            ("/openapi/v3/api/v1", Some(("", "v1"))),
            ("/apis/apps", None),
            ("/apis", None),
            ("/openapi/v3", None),
            ("/healthz", None),
        ] {
            assert_eq!(group_version(path), expected, "{path}");
        }
    }
}
