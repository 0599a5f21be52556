//! StorageVersions: in which version each API server writes a resource. What a server that is gone has said goes with its
//! Lease, so that a migration waits for nobody who will never come.
//!
//! The resource is an alpha version of `internal.apiserver.k8s.io`; where it is not served there is nothing to do. Tiphys'
//! own API servers write one version of everything and say nothing there: this is for kube-apiservers beside them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tiphys_api::{Gvr, Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found};
use crate::resources::Resources;

const VERSIONS: Gvr = Gvr::new("internal.apiserver.k8s.io", "v1alpha1", "storageversions");
const NAMESPACE: &str = "kube-system";
const IDENTITY: &str = "apiserver.kubernetes.io/identity";

struct Collector {
    client: Arc<dyn Client>,
    versions: Arc<Informer>,
    leases: Arc<Informer>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    tokio::select! {
        () = served(context.resources.clone()) => {}
        () = context.stop.cancelled() => return,
    }
    let collector = Arc::new(Collector {
        client: context.client("storage-version-garbage-collector"),
        versions: context.informer(&VERSIONS),
        leases: context.informers.scoped(&Lease::GVR, NAMESPACE, ""),
    });
    let queue = WorkQueue::named("storage_version_garbage_collector");
    enqueue_all(&collector.versions, &queue);
    let (weak, to) = (Arc::downgrade(&collector.versions), queue.clone());
    collector.leases.on_change(Box::new(move |old, new| {
        let gone = old.is_some_and(is_identity) && !new.is_some_and(is_identity);
        if let Some(versions) = weak.upgrade().filter(|_| gone) {
            versions.list("").iter().for_each(|version| to.add(Key::of(version)));
        }
    }));
    let informers = [collector.versions.clone(), collector.leases.clone()];
    let reconcile = move |key: Key| {
        let collector = collector.clone();
        async move { collector.reconcile(&key.name).await }
    };
    context.work(queue, 1, &informers.each_ref(), reconcile).await;
}

/// Waits until the resource is served.
async fn served(mut resources: Resources) {
    let mut found = resources.now();
    while !found.served.iter().any(|served| served.gvr == VERSIONS) {
        found = resources.changed().await;
    }
}

/// Whether a Lease says that an API server lives.
fn is_identity(lease: &Object) -> bool {
    lease.meta().labels.get(IDENTITY) == Some("kube-apiserver")
}

impl Collector {
    async fn reconcile(&self, name: &str) -> Outcome {
        let Some(object) = self.versions.get("", name).filter(|object| object.meta().deleted.is_none())
        else {
            return Ok(None);
        };
        let mut version = object.value().map_err(Status::internal)?;
        let said = version["status"]["storageVersions"].as_array().cloned().unwrap_or_default();
        let mut left = Vec::with_capacity(said.len());
        for one in &said {
            if self.lives(one["apiServerID"].as_str().unwrap_or_default()).await? {
                left.push(one.clone());
            }
        }
        let target = Target::new(&VERSIONS, "", name);
        let done = if left.len() == said.len() {
            return Ok(None);
        } else if left.is_empty() {
            let options = DeleteOptions::of(object.meta());
            self.client.delete(&target, &options).await.map(drop)
        } else {
            version["status"] = status(&version["status"], &left, Timestamp::now());
            let body = version.to_string().into();
            self.client.update(&target.sub("status"), body, &WriteOptions::default()).await.map(drop)
        };
        ignore_not_found(done).map(|()| None)
    }

    /// Whether an API server has its Lease. The cache may be late: before anything is forgotten, the API is asked.
    async fn lives(&self, server: &str) -> Result<bool, Status> {
        if self.leases.get(NAMESPACE, server).as_ref().is_some_and(is_identity) {
            return Ok(true);
        }
        let lease = self.client.get(&Target::new(&Lease::GVR, NAMESPACE, server)).await;
        Ok(ignore_not_found(lease.map(Some))?.as_ref().is_some_and(is_identity))
    }
}

/// What the servers that are left say, and whether they agree.
fn status(old: &Value, left: &[Value], now: Timestamp) -> Value {
    let common = left.first().map(|one| one["encodingVersion"].clone());
    let common = common.filter(|common| left.iter().all(|one| one["encodingVersion"] == *common));
    let (truth, reason, message) = match common {
        Some(_) => ("True", "CommonEncodingVersionSet", "Common encoding version set"),
        None => ("False", "CommonEncodingVersionUnset", "Common encoding version unset"),
    };
    let conditions = old["conditions"].as_array().into_iter().flatten();
    let (mut ours, mut all): (Vec<_>, Vec<_>) =
        conditions.cloned().partition(|condition| condition["type"] == "AllEncodingVersionsEqual");
    let same = ours.pop().filter(|known| known["status"] == truth);
    let since = same.map_or_else(|| json!(Time(now)), |known| known["lastTransitionTime"].clone());
    all.push(
        json!({"type": "AllEncodingVersionsEqual", "status": truth, "reason": reason, "message": message,
        "lastTransitionTime": since}),
    );
    let mut status = json!({"storageVersions": left, "conditions": all});
    if let Some(common) = common {
        status["commonEncodingVersion"] = common;
    }
    status
}

#[cfg(test)]
mod tests {
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    #[tokio::test(start_paused = true)]
    async fn what_a_server_has_said_goes_with_it() {
        let client = FakeClient::new();
        let group = json!({"groupVersion": "internal.apiserver.k8s.io/v1alpha1", "version": "v1alpha1"});
        let groups =
            json!([{"name": "internal.apiserver.k8s.io", "versions": [group], "preferredVersion": group}]);
        client.serve_path("/apis", &json!({"groups": groups}));
        client.serve_path("/api/v1", &json!({"resources": []}));
        let verbs = json!(["delete", "get", "list", "update", "watch"]);
        let resource =
            json!({"name": "storageversions", "kind": "StorageVersion", "namespaced": false, "verbs": verbs});
        client.serve_path("/apis/internal.apiserver.k8s.io/v1alpha1", &json!({"resources": [resource]}));
        let says = |server: &str, version: &str| json!({"apiServerID": server, "encodingVersion": version});
        for (name, said) in
            [("apps.deployments", vec![says("a", "v1"), says("b", "v2")]), ("old", vec![says("b", "v2")])]
        {
            let version =
                json!({"metadata": {"name": name}, "spec": {}, "status": {"storageVersions": said}});
            client.put_value(&VERSIONS, &version);
        }
        for server in ["a", "b"] {
            let labels = json!({(IDENTITY): "kube-apiserver"});
            let lease = json!({"metadata": {"name": server, "namespace": NAMESPACE, "labels": labels}});
            client.put(&typed::<Lease>(lease));
        }
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        let said = async |name: &str| {
            let found = client.get(&Target::new(&VERSIONS, "", name)).await.ok()?;
            Some(found.value().unwrap()["status"].clone())
        };
        assert_eq!(said("apps.deployments").await.unwrap()["storageVersions"].as_array().unwrap().len(), 2);
        client.remove(&Lease::GVR, NAMESPACE, "b");
        cluster.settle().await;
        let status = said("apps.deployments").await.unwrap();
        assert_eq!(status["storageVersions"], json!([says("a", "v1")]));
        assert_eq!(status["commonEncodingVersion"], "v1");
        assert_eq!(status["conditions"][0]["reason"], "CommonEncodingVersionSet");
        assert_eq!(said("old").await, None);
    }
}
