use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tiphys_api::Status;

use super::*;
use crate::fake::FakeClient;
use crate::typed::Kind;

fn pod(name: &str, owner: &str) -> Pod {
    let value = tiphys_api::json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": owner, "controller": true}]}});
    value.to().unwrap()
}

/// What a handler saw: `+name`, `~name`, `-name`.
type Seen = Arc<Mutex<Vec<String>>>;

fn record(informer: &Informer) -> Seen {
    let seen = Seen::default();
    let into = seen.clone();
    informer.on_change(Box::new(move |old, new| {
        let (sign, object) = match (old, new) {
            (None, Some(new)) => ("+", new),
            (Some(_), Some(new)) => ("~", new),
            (Some(old), None) => ("-", old),
            (None, None) => panic!("a change of nothing"),
        };
        into.lock().push(format!("{sign}{}", object.meta().name));
    }));
    seen
}

fn taken(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut seen.lock())
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn handlers_see_what_is_there_and_then_every_change() {
    let client = FakeClient::new();
    client.put(&pod("a", "u1"));
    let informers = Informers::new(Arc::new(client.clone()));
    let pods = informers.of(&Pod::GVR);
    let early = record(&pods);
    pods.synced().await;
    assert_eq!(taken(&early), ["+a"]);
    let late = record(&pods);
    assert_eq!(taken(&late), ["+a"]);
    client.put(&pod("b", "u1"));
    client.put(&pod("a", "u2"));
    client.remove(&Pod::GVR, "n", "b");
    settle().await;
    assert_eq!(taken(&early), ["+b", "~a", "-b"]);
    assert_eq!(taken(&late), ["+b", "~a", "-b"]);
    assert!(Arc::ptr_eq(&pods, &informers.of(&Pod::GVR)), "one informer per resource");
}

#[tokio::test(start_paused = true)]
async fn the_owner_index_follows_changes() {
    let client = FakeClient::new();
    client.put(&pod("a", "u1"));
    client.put(&pod("b", "u1"));
    let pods = Informers::new(Arc::new(client.clone())).of(&Pod::GVR);
    pods.synced().await;
    assert_eq!(pods.by_owner("u1").len(), 2);
    client.put(&pod("a", "u2"));
    client.remove(&Pod::GVR, "n", "b");
    settle().await;
    assert_eq!((pods.by_owner("u1").len(), pods.by_owner("u2").len(), pods.len()), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_revision_is_made_up_by_a_list() {
    let client = FakeClient::new();
    client.put(&pod("gone", "u1"));
    client.put(&pod("reborn", "u1"));
    let watches = Arc::new(AtomicUsize::new(0));
    let (count, changing) = (watches.clone(), client.clone());
    client.fail(Box::new(move |verb, _| {
        // The first watch never comes about; meanwhile the world changes.
        let first = verb == "watch" && count.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| {
            changing.remove(&Pod::GVR, "n", "gone");
            changing.remove(&Pod::GVR, "n", "reborn");
            changing.put(&pod("reborn", "u1"));
            Status::expired("too old resource version")
        })
    }));
    let pods = Informers::new(Arc::new(client)).of(&Pod::GVR);
    let seen = record(&pods);
    settle().await;
    assert_eq!(seen.lock().split_off(2), ["-gone", "-reborn", "+reborn"]);
    assert_eq!(watches.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_scope_sees_only_its_part() {
    let client = FakeClient::new();
    let informers = Informers::new(Arc::new(client.clone()));
    let mine = informers.scoped(&Pod::GVR, "", "spec.nodeName=me");
    let seen = record(&mine);
    client.put(&pod("a", "u1"));
    let mut bound = pod("a", "u1");
    bound.spec.get_or_insert_default().node_name = Some("me".into());
    client.put(&bound);
    settle().await;
    client.remove(&Pod::GVR, "n", "a");
    settle().await;
    assert_eq!(taken(&seen), ["+a", "-a"]);
}
