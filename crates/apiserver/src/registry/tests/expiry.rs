//! Events end by themselves: the store is told so with each write, and its leases are its own affair.

use std::sync::Arc;
use std::time::Duration;

use tiphys_api::{Gvr, json};
use tiphys_client::{Client, Target, WriteOptions};
use tiphys_store::{Embedded, Store, embedded};

use crate::auth::User;
use crate::cache::Options;
use crate::local::LocalClient;
use crate::registry::testing::{self, AllowAll};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test]
async fn an_event_lives_for_an_hour_and_nothing_else_ends() {
    let store: Arc<dyn Store> = Arc::new(Embedded::in_memory(&embedded::Options::default()).unwrap());
    let fixture = testing::fixture_over(store.clone(), Options::default()).await;
    let client = LocalClient::new(fixture.registry.clone(), Arc::new(AllowAll), User::default(), "test");
    let create = async |gvr: &Gvr, object: tiphys_api::Value| {
        let (target, options) = (Target::new(gvr, "n", ""), WriteOptions::default());
        client.create(&target, object.to_string().into(), &options).await.unwrap();
    };
    let about = json!({"kind": "Pod", "namespace": "n", "name": "p"});
    let events = Gvr::new("", "v1", "events");
    create(&events, json!({"metadata": {"name": "old"}, "involvedObject": about})).await;
    let newer = json!({"metadata": {"name": "new"}, "regarding": about, "reason": "R", "action": "A", "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c.k8s.io/c", "reportingInstance": "i"});
    create(&Gvr::new("events.k8s.io", "v1", "events"), newer).await;
    create(&Gvr::new("", "v1", "configmaps"), json!({"metadata": {"name": "m"}})).await;
    let lease = async |key: &str| store.get(key.into()).await.unwrap().unwrap().lease;
    assert_eq!(lease("/registry/configmaps/n/m").await, 0);
    for key in ["/registry/events/n/old", "/registry/events/n/new"] {
        let lease = store.lease(lease(key).await).await.unwrap();
        assert!((HOUR..=HOUR + Duration::from_secs(60)).contains(&lease.ttl), "{key}: {:?}", lease.ttl);
        assert!(lease.remaining > HOUR - Duration::from_secs(60));
    }
    store.revoke(lease("/registry/events/n/old").await).await.unwrap();
    let target = Target::new(&events, "n", "old");
    let gone = async {
        while client.get(&target).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it ends with its lease");
}
