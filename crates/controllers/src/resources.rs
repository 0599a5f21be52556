//! All resources that the API serves, found by discovery, and told anew when custom resources or API services change.
//!
//! The garbage collector follows every one of them, the namespace controller empties them. What cannot be discovered (an
//! aggregated API that is down) is named, so that nobody takes its absence for emptiness.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tiphys_api::{Gvr, Status};
use tiphys_client::{Client, Informers};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const CUSTOM_RESOURCES: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const API_SERVICES: Gvr = Gvr::new("apiregistration.k8s.io", "v1", "apiservices");
/// Changes often come in groups (one CRD is written several times until it is served).
const QUIET: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(10);

/// One resource in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) gvr: Gvr,
    pub(crate) kind: Box<str>,
    pub(crate) namespaced: bool,
    /// Can be listed, watched and deleted: it can be collected.
    pub(crate) collectable: bool,
    /// Can be listed and deleted.
    pub(crate) deletable: bool,
}

/// What discovery found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) served: Vec<Arc<Served>>,
    /// Group-versions that did not answer, with the reason.
    pub(crate) failed: Vec<(String, String)>,
    kinds: HashMap<(Box<str>, Box<str>), usize>,
}

impl Found {
    fn new(served: Vec<Arc<Served>>, failed: Vec<(String, String)>) -> Self {
        let key = |s: &Served| (Box::from(s.gvr.group.as_ref()), s.kind.clone());
        let kinds = served.iter().enumerate().map(|(at, s)| (key(s), at)).collect();
        Self { served, failed, kinds }
    }

    /// The resource of a kind, whatever version the `apiVersion` names.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Served>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.served.get(*self.kinds.get(&(group.into(), kind.into()))?)
    }
}

/// The newest findings, shared.
#[derive(Clone)]
pub(crate) struct Resources(watch::Receiver<Arc<Found>>);

impl Resources {
    /// Starts discovering, until `stop`.
    pub(crate) fn start(informers: &Arc<Informers>, stop: CancellationToken) -> Self {
        let changed = Arc::new(Notify::new());
        // Kept by the task: they end with it.
        let watched = [CUSTOM_RESOURCES, API_SERVICES].map(|gvr| informers.of(&gvr));
        for informer in &watched {
            let changed = changed.clone();
            informer.on_change(Box::new(move |_, _| changed.notify_one()));
        }
        let (found, receiver) = watch::channel(Arc::new(Found::default()));
        let client = informers.client().clone();
        tokio::spawn(async move {
            let follow = follow(client, changed, found);
            tokio::select! { () = follow => {}, () = stop.cancelled() => {} }
            drop(watched);
        });
        Self(receiver)
    }

    /// The newest findings; empty before the first.
    pub(crate) fn now(&self) -> Arc<Found> {
        self.0.borrow().clone()
    }

    /// Waits for findings that differ from the last that this handle has seen.
    pub(crate) async fn changed(&mut self) -> Arc<Found> {
        if self.0.changed().await.is_err() {
            // Discovery ended: we are stopping.
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }

    /// Waits for the first findings.
    pub(crate) async fn ready(&self) {
        // An error means that we are stopping.
        let _ = self.0.clone().wait_for(|found| !found.served.is_empty()).await;
    }
}

async fn follow(client: Arc<dyn Client>, changed: Arc<Notify>, found: watch::Sender<Arc<Found>>) {
    loop {
        let outcome = discover(client.as_ref()).await;
        let complete = outcome.as_ref().is_ok_and(|found| found.failed.is_empty());
        match outcome {
            Ok(new) => drop(found.send_if_modified(|old| {
                let differs = **old != new;
                *old = Arc::new(new);
                differs
            })),
            Err(status) => tracing::debug!(%status, "discovery failed, will retry"),
        }
        if complete {
            changed.notified().await;
        } else {
            tokio::select! { () = changed.notified() => {}, () = tokio::time::sleep(RETRY) => {} }
        }
        tokio::time::sleep(QUIET).await;
    }
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    versions: Vec<Version>,
    preferred_version: Option<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

async fn discover(client: &dyn Client) -> Result<Found, Status> {
    let groups: Groups = document(client, "/apis").await?;
    let mut paths = vec![("/api/v1".to_owned(), "v1".to_owned())];
    for group in groups.groups {
        // The preferred version first: a resource counts in the first version that has it.
        let versions = group.preferred_version.into_iter().chain(group.versions);
        paths.extend(versions.map(|v| (format!("/apis/{}", v.group_version), v.group_version)));
    }
    let (mut served, mut failed) = (Vec::<Arc<Served>>::new(), Vec::new());
    for (path, group_version) in paths {
        match document::<List>(client, &path).await {
            Ok(list) => add(&mut served, &group_version, list),
            Err(status) => failed.push((group_version, status.message)),
        }
    }
    Ok(Found::new(served, failed))
}

async fn document<T: for<'de> Deserialize<'de>>(client: &dyn Client, path: &str) -> Result<T, Status> {
    serde_json::from_slice(&client.get_path(path).await?).map_err(Status::internal)
}

fn add(served: &mut Vec<Arc<Served>>, group_version: &str, list: List) {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    for Resource { name, kind, namespaced, verbs } in list.resources {
        let known = |s: &Arc<Served>| s.gvr.group == group && s.gvr.resource == name;
        if name.contains('/') || served.iter().any(known) {
            continue;
        }
        let has = |verb: &str| verbs.iter().any(|v| v == verb);
        let deletable = has("list") && has("delete");
        served.push(Arc::new(Served {
            gvr: Gvr::owned(group, version, &name),
            kind: kind.into(),
            namespaced,
            deletable,
            collectable: deletable && has("watch") && has("get"),
        }));
    }
}
