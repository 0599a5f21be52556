//! A store whose calls are timed, under the name that dashboards know from etcd's clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tiphys_api::Gvr;
use tiphys_store::{
    Error, Key, KeyValue, Lease, LeaseId, Op, Range, RangeResult, Revision, Script, ScriptResult, Snapshot,
    Status, Store, Txn, TxnResult, Watch, WatchFrom,
};

use tiphys_client::metrics::{Histogram, header, line};

const NAME: &str = "etcd_request_duration_seconds";
/// Seconds, as kube-apiserver's histogram of the same name has them.
const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
const OPERATIONS: [&str; 5] = ["create", "update", "delete", "list", "get"];

/// How long the store took, by operation.
pub struct StoreTimes([Histogram; OPERATIONS.len()]);

impl Default for StoreTimes {
    fn default() -> Self {
        Self(OPERATIONS.map(|_| Histogram::new(BUCKETS)))
    }
}

impl StoreTimes {
    fn observe(&self, operation: &str, took: Duration) {
        let at = OPERATIONS.iter().position(|known| *known == operation);
        if let Some(times) = at.and_then(|at| self.0.get(at)) {
            times.observe(took.as_secs_f64());
        }
    }

    /// Writes all series.
    pub fn render(&self, out: &mut String) {
        header(out, NAME, "histogram", "Time that the state store took, in seconds.");
        for (operation, times) in OPERATIONS.iter().zip(&self.0) {
            times.render(out, NAME, &format!("operation=\"{operation}\""));
        }
    }
}

/// Writes how large the store is.
pub fn render_size(out: &mut String, status: &Status) {
    let name = "apiserver_storage_size_bytes";
    header(out, name, "gauge", "Size of the state store's file in bytes.");
    line(out, name, "storage_cluster_id=\"embedded\"", status.disk_bytes);
}

/// Writes how many objects there are of each resource: its group, its name, their number.
pub fn render_objects<'a>(out: &mut String, counts: impl Iterator<Item = (&'a Gvr, usize)> + Clone) {
    let name = "apiserver_resource_objects";
    header(out, name, "gauge", "Number of stored objects.");
    for (gvr, count) in counts.clone() {
        line(out, name, &format!("group=\"{}\",resource=\"{}\"", gvr.group, gvr.resource), count);
    }
    let name = "apiserver_storage_objects";
    header(out, name, "gauge", "Number of stored objects, by the older name.");
    for (gvr, count) in counts {
        line(out, name, &format!("resource=\"{}\"", gvr.group_resource()), count);
    }
}

/// A store that times its calls.
pub struct Timed {
    store: Arc<dyn Store>,
    times: Arc<StoreTimes>,
}

impl Timed {
    /// Times the calls to `store`.
    pub fn new(store: Arc<dyn Store>, times: Arc<StoreTimes>) -> Self {
        Self { store, times }
    }
}

/// What a transaction does, by its first change.
fn operation(txn: &Txn) -> &'static str {
    match txn.ops.first() {
        Some(Op::Delete { .. }) => "delete",
        _ if txn.compares.iter().any(|compare| compare.mod_revision == 0) => "create",
        _ => "update",
    }
}

#[async_trait]
impl Store for Timed {
    async fn revision(&self) -> Result<Revision, Error> {
        self.store.revision().await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let (operation, began) = (operation(&txn), Instant::now());
        let outcome = self.store.txn(txn).await;
        self.times.observe(operation, began.elapsed());
        outcome
    }

    async fn run(&self, script: Script) -> Result<ScriptResult, Error> {
        self.store.run(script).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        let began = Instant::now();
        let outcome = self.store.range(range).await;
        self.times.observe("list", began.elapsed());
        outcome
    }

    async fn watch(&self, from: WatchFrom) -> Result<Watch, Error> {
        self.store.watch(from).await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.store.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.store.grant(ttl).await
    }

    async fn grant_as(&self, lease: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        self.store.grant_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.store.revoke(lease).await
    }

    async fn lease(&self, lease: LeaseId) -> Result<Lease, Error> {
        self.store.lease(lease).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        self.store.leases().await
    }

    async fn snapshot(&self, revision: Revision) -> Result<Snapshot, Error> {
        self.store.snapshot(revision).await
    }

    async fn defragment(&self) -> Result<(), Error> {
        self.store.defragment().await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.store.status().await
    }

    async fn get(&self, key: Key) -> Result<Option<KeyValue>, Error> {
        let began = Instant::now();
        let outcome = self.store.get(key).await;
        self.times.observe("get", began.elapsed());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use tiphys_store::{Embedded, embedded};

    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_what_they_do() {
        let store = Arc::new(Embedded::in_memory(&embedded::Options::default()).unwrap());
        let times = Arc::new(StoreTimes::default());
        let timed = Timed::new(store, times.clone());
        timed.txn(Txn::create("/a", "1")).await.unwrap();
        let revision = timed.revision().await.unwrap();
        timed.txn(Txn::update("/a", "2", revision)).await.unwrap();
        timed.range(Range::prefix("/")).await.unwrap();
        let mut text = String::new();
        times.render(&mut text);
        for (operation, count) in [("create", 1), ("update", 1), ("delete", 0), ("list", 1), ("get", 0)] {
            let line = format!("{NAME}_count{{operation=\"{operation}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
