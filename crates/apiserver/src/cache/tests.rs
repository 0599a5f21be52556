//! The cache against a model: every past state that its ring reaches is shown exactly, and what it does not reach is
//! refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tiphys_api::Gvr;
use tiphys_api::schema::builtin;

use super::resource::Change;
use super::{Cache, EventKind, Span};

const PODS: Gvr = Gvr::new("", "v1", "pods");

fn cache(ring_bytes: usize) -> Cache {
    Cache::new(builtin().get(&PODS).unwrap().clone(), "/registry/pods/".into(), ring_bytes)
}

fn pod(namespace: &str, name: &str, node: &str) -> Bytes {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}"}},"spec":{{"hostNetwork":true,"nodeName":"{node}"}}}}"#
    )
    .into()
}

fn tree(json: &[u8]) -> tiphys_api::Value {
    serde_json::from_slice(json).unwrap()
}

/// Keys to nodes.
type State = BTreeMap<(String, String), String>;

fn shown(cache: &Cache, span: Span<'_>) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let visit = |object: &tiphys_api::Object| {
        let node = object.meta().fields.iter().find(|f| f.starts_with("node")).unwrap();
        found.push((object.meta().key(), node.to_string()));
        true
    };
    cache.scan(span, visit).ok()?;
    Some(found)
}

fn expected(state: &State, namespace: &str) -> Vec<(String, String)> {
    let all = state.iter().map(|((ns, name), node)| (format!("{ns}/{name}"), node.clone()));
    let mut all: Vec<_> =
        all.filter(|(key, _)| namespace.is_empty() || key.starts_with(&format!("{namespace}/"))).collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn every_state_that_the_ring_reaches_is_shown(
        steps in proptest::collection::vec((0..3usize, 0..4usize, 0..3u8, any::<bool>()), 1..40),
        ring_bytes in 1000..8000usize,
    ) {
        let cache = cache(ring_bytes);
        let namespaces = ["a", "a-b", "b"];
        let mut state = State::new();
        let mut history = vec![(0, state.clone())];
        for (at, (ns, name, node, delete)) in steps.into_iter().enumerate() {
            let revision = at as u64 + 1;
            let (ns, name, node) = (namespaces[ns], format!("p{name}"), format!("node{node}"));
            let change = match delete {
                true => {
                    state.remove(&(ns.to_owned(), name.clone()));
                    Change::Delete { key: format!("{ns}/{name}").into(), revision }
                }
                false => {
                    state.insert((ns.to_owned(), name.clone()), node.clone());
                    Change::Put { value: pod(ns, &name, &node), revision }
                }
            };
            prop_assert!(cache.apply(vec![change]).is_empty());
            history.push((revision, state.clone()));
        }
        let floor = cache.since(u64::MAX, 1).map(|_| cache.since(0, 1).err().map_or(0, |e| e.floor)).unwrap();
        for (revision, state) in &history {
            for namespace in ["", "a", "b"] {
                let found = shown(&cache, Span { namespace, revision: *revision, ..Span::default() });
                // Revision 0 asks for the present.
                let wanted = if *revision == 0 { &history.last().unwrap().1 } else { state };
                let reached = *revision == 0 || *revision >= floor;
                prop_assert_eq!(found, reached.then(|| expected(wanted, namespace)), "at {}", revision);
            }
        }
    }
}

#[test]
fn a_watcher_that_fell_behind_is_told_the_floor() {
    let cache = cache(1500);
    for revision in 1..=10 {
        cache.apply(vec![Change::Put { value: pod("n", "p", "node"), revision }]);
    }
    let floor = cache.since(1, 10).unwrap_err().floor;
    assert!(floor > 1 && floor < 10);
    let events = cache.since(floor, 100).unwrap();
    assert_eq!(events.iter().map(|e| e.revision).collect::<Vec<_>>(), (floor + 1..=10).collect::<Vec<_>>());
    assert!(events.iter().all(|e| e.kind == EventKind::Modified));
}

#[test]
fn events_of_one_revision_are_never_parted() {
    let cache = cache(1 << 20);
    let change = |name: &str, revision| Change::Put { value: pod("n", name, "node"), revision };
    cache.apply(vec![change("a", 1), change("b", 2), change("c", 2), change("d", 2), change("e", 3)]);
    assert_eq!(cache.since(1, 1).unwrap().len(), 3);
    assert_eq!(cache.since(0, 2).unwrap().len(), 4);
}

#[test]
fn writer_and_feed_share_one_object() {
    let cache = cache(1 << 20);
    let prepared = cache.prepare(&tree(&pod("n", "p", "node7")), None).unwrap();
    let value = prepared.bytes();
    // A writer has its answer when the feed has come so far.
    cache.apply(vec![Change::Put { value: value.clone(), revision: 5 }]);
    assert!(cache.get("n", "p").unwrap().same(&prepared.committed(5)));
    // One that was withdrawn is parsed by the feed.
    let withdrawn = cache.prepare(&tree(&value), None).unwrap();
    let value = withdrawn.bytes();
    drop(withdrawn);
    cache.apply(vec![Change::Put { value, revision: 6 }]);
    let object = cache.get("n", "p").unwrap();
    assert_eq!(object.meta().resource_version, 6);
    assert_eq!(Arc::as_ptr(&cache.resource), Arc::as_ptr(builtin().get(&PODS).unwrap()));
    assert!(object.meta().fields.iter().any(|f| f.as_ref() == "node7"));
}
