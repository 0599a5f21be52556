//! The collector's laws, over random graphs, deletions and late caches: it never deletes what has a living owner, and in
//! the end nothing is left whose owners are all gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, serve_discovery};

const MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const OBJECTS: u8 = 7;

#[derive(Clone, Debug)]
enum Step {
    /// Makes an object with these owners, some of which may never have been.
    Make(u8, Vec<u8>),
    /// Somebody deletes it.
    Delete(u8, &'static str),
    /// The caches stand still from now on, or catch up.
    Hold(bool),
    /// Time passes.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owners = proptest::collection::vec(0..OBJECTS + 1, 0..3);
    let how = prop_oneof![Just("Background"), Just("Foreground"), Just("Orphan")];
    let step = prop_oneof![
        5 => (0..OBJECTS, owners).prop_map(|(name, owners)| Step::Make(name, owners)),
        3 => (0..OBJECTS, how).prop_map(|(name, how)| Step::Delete(name, how)),
        1 => any::<bool>().prop_map(Step::Hold),
        2 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..24)
}

/// Identities say which life of a name they are: an owner reference is to one life.
fn uid(client: &FakeClient, name: u8) -> String {
    let found = client.find::<k8s_openapi::api::core::v1::ConfigMap>("n", &format!("m{name}"));
    found.and_then(|map| map.metadata.uid).unwrap_or_else(|| format!("never-{name}"))
}

fn make(client: &FakeClient, name: u8, owners: &[u8], life: usize) {
    let owner = |owner: &u8| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("m{owner}"), "uid": uid(client, *owner),
            "blockOwnerDeletion": true})
    };
    let mut owners: Vec<Value> = owners.iter().filter(|owner| **owner != name).map(owner).collect();
    owners.dedup();
    let metadata = json!({"name": format!("m{name}"), "namespace": "n", "uid": format!("m{name}-{life}"),
        "ownerReferences": owners});
    client.put_value(&MAPS, &json!({"metadata": metadata}));
}

fn all(client: &FakeClient) -> Vec<Object> {
    let maps = client.all::<k8s_openapi::api::core::v1::ConfigMap>("n");
    maps.iter().map(|map| Object::from_value(&Value::of(map).unwrap()).unwrap()).collect()
}

/// Whether an owner exists and does not itself wait for its dependents.
fn lives(objects: &[Object], owner: &OwnerRef) -> bool {
    let found = objects.iter().find(|object| object.meta().uid == owner.uid);
    found.is_some_and(|object| {
        let waits = object.meta().finalizers.iter().any(|f| **f == *FOREGROUND);
        !(object.meta().deleted.is_some() && waits)
    })
}

/// Notes every deletion by the collector of an object that has a living owner, or none at all.
fn watch_deletions(client: &FakeClient, by_people: &Arc<AtomicBool>, wrong: &Arc<Mutex<Vec<String>>>) {
    let (inner, by_people, wrong) = (client.clone(), by_people.clone(), wrong.clone());
    client.fail(Box::new(move |verb, target| {
        if verb == "delete" && target.gvr == MAPS && !by_people.load(Ordering::SeqCst) {
            let objects = all(&inner);
            let object = objects.iter().find(|object| *object.meta().name == *target.name)?;
            let owners = &object.meta().owners;
            if owners.is_empty() || owners.iter().any(|owner| lives(&objects, owner)) {
                wrong.lock().push(format!("{} with {owners:?}", target.name));
            }
        }
        None
    }));
}

async fn run(steps: &[Step]) -> (Vec<String>, Vec<String>) {
    let client = FakeClient::new();
    serve_discovery(&client);
    let (by_people, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    watch_deletions(&client, &by_people, &wrong);
    let cluster = Cluster::start(client.clone());
    cluster.settle().await;
    for (life, step) in steps.iter().enumerate() {
        match step {
            Step::Make(name, owners) => {
                if client.find::<k8s_openapi::api::core::v1::ConfigMap>("n", &format!("m{name}")).is_none() {
                    make(&client, *name, owners, life);
                }
            }
            Step::Delete(name, propagation) => {
                by_people.store(true, Ordering::SeqCst);
                let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
                drop(client.delete(&Target::new(&MAPS, "n", &format!("m{name}")), &options).await);
                by_people.store(false, Ordering::SeqCst);
            }
            Step::Hold(hold) => client.hold_watches(*hold),
            Step::Wait => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    client.hold_watches(false);
    // Retries back off while caches are late.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let objects = all(&client);
    let exists = |owner: &OwnerRef| objects.iter().any(|object| object.meta().uid == owner.uid);
    let left = objects.iter().filter(|object| {
        let owners = &object.meta().owners;
        (!owners.is_empty() && !owners.iter().any(exists)) || object.meta().deleted.is_some()
    });
    let left = left.map(|object| format!("{} with {:?}", object.meta().name, object.meta().owners)).collect();
    let wrong = wrong.lock().clone();
    (wrong, left)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_has_a_living_owner_stays_and_what_has_none_goes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (wrong, left) = runtime.block_on(run(&steps));
        prop_assert!(wrong.is_empty(), "deleted wrongly: {:?}", wrong);
        prop_assert!(left.is_empty(), "left behind: {:?}", left);
    }
}
