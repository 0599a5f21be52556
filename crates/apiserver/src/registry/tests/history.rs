//! What lies behind the rings: pages from the store's history, 410 when that is gone too, and a restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tiphys_api::Gvr;
use tiphys_api::schema::builtin;
use tiphys_store::{
    Embedded, Error, Lease, LeaseId, Range, RangeResult, Script, ScriptResult, Snapshot, Store, Txn,
    TxnResult, Watch, WatchFrom, embedded,
};
use tokio::sync::Notify;

use crate::auth::User;
use crate::cache::{Delivery, Options};
use crate::registry::testing::{self, Fixture};
use crate::registry::{Body, List, ListParams, PatchType, Registry, Request, WatchParams, WriteParams};

const CONFIGMAPS: Gvr = Gvr::new("", "v1", "configmaps");

fn request<'r>(user: &'r User, name: &'r str) -> Request<'r> {
    Request { resource: builtin().get(&CONFIGMAPS).unwrap(), namespace: "n", name, subresource: "", user }
}

async fn create(registry: &Registry, name: &str) -> tiphys_api::Object {
    let body = Body::Json(format!(r#"{{"metadata":{{"name":"{name}"}}}}"#).into());
    let user = User::default();
    registry.create(&request(&user, ""), body, &WriteParams::default()).await.unwrap().object
}

async fn patch(registry: &Registry, name: &str, patch: String) {
    let user = User::default();
    let body = Body::Json(patch.into());
    registry.patch(&request(&user, name), PatchType::Merge, body, &WriteParams::default()).await.unwrap();
}

async fn page(registry: &Registry, token: &str) -> Result<List, tiphys_api::Status> {
    let params = ListParams { limit: 2, continue_token: token.into(), ..ListParams::default() };
    registry.list(&request(&User::default(), ""), &params).await
}

fn names(list: &List) -> Vec<String> {
    list.items.iter().map(|o| o.meta().name.to_string()).collect()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Embedded::in_memory(&embedded::Options::default()).unwrap())
}

#[tokio::test]
async fn pages_outlive_the_ring_but_not_the_history() {
    let store = memory();
    let options = Options { ring_bytes_max: 2000, ..Options::default() };
    let Fixture { registry, _stop } = testing::fixture_over(store.clone(), options).await;
    for name in ["a", "b", "c", "d"] {
        create(&registry, name).await;
    }
    let first = page(&registry, "").await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["a".into(), "b".into()], Some(2)));
    for n in 0..20 {
        patch(&registry, "d", format!(r#"{{"data":{{"n":"{n}"}}}}"#)).await;
    }
    create(&registry, "e").await;
    let second = page(&registry, &first.continue_token).await.unwrap();
    assert_eq!(
        (names(&second), second.resource_version),
        (vec!["c".into(), "d".into()], first.resource_version)
    );
    assert!(!String::from_utf8_lossy(second.items.last().unwrap().json()).contains("\"data\""));

    store.compact(store.revision().await.unwrap()).await.unwrap();
    let gone = page(&registry, &first.continue_token).await.unwrap_err();
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
    let inconsistent = page(&registry, &gone.metadata.continue_token).await.unwrap();
    assert_eq!(names(&inconsistent), ["c", "d"]);
    assert!(inconsistent.resource_version > first.resource_version);
}

#[tokio::test]
async fn watchers_resume_after_a_restart() {
    let store = memory();
    let (since, missed) = {
        let Fixture { registry, _stop } = testing::fixture_over(store.clone(), Options::default()).await;
        let seen = create(&registry, "a").await;
        (seen.meta().resource_version, create(&registry, "b").await)
    };
    let Fixture { registry, _stop } = testing::fixture_over(store, Options::default()).await;
    let user = User::default();
    let params = WatchParams { resource_version: since.to_string(), ..WatchParams::default() };
    let mut watch = registry.watch(&request(&user, ""), &params).await.unwrap();
    let batch = watch.next().await.unwrap().unwrap();
    let [Delivery::Event { event, .. }] = batch.as_slice() else { panic!("{batch:?}") };
    assert_eq!(event.object.json(), missed.json());
}

/// A store whose first watch breaks off, as when its reader fell behind, once `break_now` is set.
struct Breaking {
    inner: Embedded,
    break_now: Arc<Notify>,
}

#[async_trait]
impl Store for Breaking {
    async fn watch(&self, from: WatchFrom) -> Result<Watch, Error> {
        let at = from.revision;
        let broken = stream::once(self.break_now.clone().notified_owned())
            .map(move |()| Err(Error::Compacted { requested: at, at: at + 1 }));
        Ok(stream::select(broken, self.inner.watch(from).await?).boxed())
    }
    async fn revision(&self) -> Result<u64, Error> {
        self.inner.revision().await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        self.inner.txn(txn).await
    }
    async fn run(&self, script: Script) -> Result<ScriptResult, Error> {
        self.inner.run(script).await
    }
    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.inner.range(range).await
    }
    async fn request_progress(&self) -> Result<(), Error> {
        self.inner.request_progress().await
    }
    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.grant(ttl).await
    }
    async fn grant_as(&self, lease: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.grant_as(lease, ttl).await
    }
    async fn lease(&self, lease: LeaseId) -> Result<Lease, Error> {
        self.inner.lease(lease).await
    }
    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        self.inner.leases().await
    }
    async fn snapshot(&self, revision: u64) -> Result<Snapshot, Error> {
        self.inner.snapshot(revision).await
    }
    async fn defragment(&self) -> Result<(), Error> {
        self.inner.defragment().await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        self.inner.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.revoke(lease).await
    }
    async fn status(&self) -> Result<tiphys_store::Status, Error> {
        self.inner.status().await
    }
}

#[tokio::test]
async fn lost_events_cut_watchers_off_and_readers_never_notice() {
    let break_now = Arc::new(Notify::new());
    let inner = Embedded::in_memory(&embedded::Options::default()).unwrap();
    let store = Arc::new(Breaking { inner, break_now: break_now.clone() });
    let Fixture { registry, _stop } = testing::fixture_over(store, Options::default()).await;
    let seen = create(&registry, "a").await;
    create(&registry, "b").await;
    let user = User::default();
    let params =
        WatchParams { resource_version: seen.meta().resource_version.to_string(), ..WatchParams::default() };
    let mut watch = registry.watch(&request(&user, ""), &params).await.unwrap();
    registry.caches().catch_up().await.unwrap();
    let mut changes = registry.caches().of(&CONFIGMAPS).unwrap().changes();
    break_now.notify_waiters();
    changes.changed().await.unwrap();
    let cut = watch.next().await.unwrap().unwrap_err();
    assert_eq!((cut.code, cut.reason.as_str()), (410, "Expired"));
    let (before, made) = (page(&registry, "").await.unwrap(), create(&registry, "z").await);
    assert_eq!(names(&before), ["a", "b"]);
    assert!(registry.get(&request(&user, "z"), "").await.unwrap().same(&made));
}

#[tokio::test]
async fn a_write_and_a_read_share_one_object() {
    let Fixture { registry, _stop } = testing::fixture().await;
    let made = create(&registry, "a").await;
    let read = registry.get(&request(&User::default(), "a"), "").await.unwrap();
    assert!(read.same(&made));
}

#[tokio::test]
async fn concurrent_patches_are_all_kept() {
    let Fixture { registry, _stop } = testing::fixture().await;
    create(&registry, "a").await;
    let patches = (0..20).map(|n| patch(&registry, "a", format!(r#"{{"data":{{"k{n}":"v"}}}}"#)));
    futures::future::join_all(patches).await;
    let read = registry.get(&request(&User::default(), "a"), "").await.unwrap().value().unwrap();
    assert_eq!(read["data"].as_object().unwrap().len(), 20);
}
