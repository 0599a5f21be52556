//! Follows one extension server: says in its APIService whether it can be asked, and keeps what it serves.
//!
//! It is looked at when its Service or endpoints change. What no event tells (it hangs, or its network is cut) is found by
//! asking it from time to time, as kube-apiserver does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tiphys_api::{Gvr, Status};
use tiphys_client::{Client, Informers, PatchKind, Target, WriteOptions};
use tokio::sync::Notify;

use super::available::{self, Finding};
use super::extension::Extension;
use super::fetch;
use super::merge::Found;
use super::service::{API_SERVICES, ApiService, Reference};
use crate::auth::Lister;
use crate::node_proxy::service::{Service, Slice};

const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SLICES: Gvr = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
/// Label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How often a server that is there is asked whether it still is.
const PERIOD: Duration = Duration::from_secs(30);
/// How soon one that did not answer is asked again: twice as long each time, up to [`PERIOD`].
const AGAIN: Duration = Duration::from_millis(50);

/// Follows one extension server.
pub(super) struct Watcher {
    pub(super) extension: Arc<Extension>,
    pub(super) client: Arc<dyn Client>,
    pub(super) lister: Arc<dyn Lister>,
    /// Counts changes of what discovery shows.
    pub(super) generation: Arc<AtomicU64>,
}

impl Watcher {
    /// Follows until it is dropped.
    pub(super) async fn run(self) {
        let Reference { namespace, name, .. } = &self.extension.reference;
        let informers = Informers::new(self.client.clone());
        let service = informers.scoped(&SERVICES, namespace, &format!("metadata.name={name}"));
        let slices = informers.scoped(&SLICES, namespace, "");
        let changed = Arc::new(Notify::new());
        let (of_service, of_slices, own) = (changed.clone(), changed.clone(), name.clone());
        service.on_change(Box::new(move |_, _| of_service.notify_one()));
        slices.on_change(Box::new(move |old, new| {
            let about = |object: &&tiphys_api::Object| object.meta().labels.get(SERVICE_NAME) == Some(&own);
            if old.filter(about).or(new.filter(about)).is_some() {
                of_slices.notify_one();
            }
        }));
        service.synced().await;
        slices.synced().await;
        let mut pause = AGAIN;
        loop {
            let well = self.look().await;
            let wait = if well { PERIOD } else { pause };
            pause = if well { AGAIN } else { (pause * 2).min(PERIOD) };
            tokio::select! {
                () = changed.notified() => pause = AGAIN,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks once; returns whether nothing has to be tried again soon.
    async fn look(&self) -> bool {
        let obstacle = self.obstacle();
        // Who waits for endpoints hears of them.
        let hears = obstacle.is_some();
        let finding = match obstacle {
            Some(obstacle) => obstacle,
            None => fetch::probe(&self.extension).await,
        };
        let told = report(self.client.as_ref(), self.lister.as_ref(), &self.extension.name, &finding).await;
        if let Err(status) = &told {
            tracing::debug!(%status, apiservice = self.extension.name, "availability could not be written");
        }
        let found = self.discover(finding.is_available()).await;
        told.is_ok() && (hears || found)
    }

    fn obstacle(&self) -> Option<Finding> {
        let Reference { namespace, name, .. } = &self.extension.reference;
        let service = self.lister.get(&SERVICES, namespace, name);
        let service: Option<Service> = service.and_then(|service| service.decode().ok());
        let slices = self.lister.list(&SLICES, namespace);
        let mine = slices.iter().filter(|slice| slice.meta().labels.get(SERVICE_NAME) == Some(name));
        let slices: Vec<Slice> = mine.filter_map(|slice| slice.decode().ok()).collect();
        available::obstacle(&self.extension.reference, service.as_ref(), &slices)
    }

    /// Reads what it serves; returns whether it told. What it told before stays, as such.
    async fn discover(&self, available: bool) -> bool {
        let before = self.extension.found();
        let found = match available {
            true => fetch::discover(&self.extension, &before).await,
            false => Err("it is not available".to_owned()),
        };
        let current = found.is_ok();
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, apiservice = self.extension.name, "what it serves is not known");
            Found { current: false, ..Found::clone(&before) }
        });
        if self.extension.set_found(found) {
            self.generation.fetch_add(1, Ordering::Release);
        }
        current
    }
}

/// Lets an APIService say what was found.
pub(super) async fn report(
    client: &dyn Client,
    lister: &dyn Lister,
    name: &str,
    finding: &Finding,
) -> Result<(), Status> {
    let Some(object) = lister.get(&API_SERVICES, "", name) else { return Ok(()) };
    let service: ApiService = object.decode().map_err(Status::internal)?;
    let Some(patch) = available::patch(&service, finding, Timestamp::now()) else { return Ok(()) };
    let target = Target::new(&API_SERVICES, "", name).sub("status");
    let body = patch.to_string().into();
    match client.patch(&target, PatchKind::Strategic, body, &WriteOptions::default()).await {
        Err(status) if status.is("NotFound") => Ok(()),
        other => other.map(drop),
    }
}
