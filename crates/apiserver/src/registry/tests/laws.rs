//! Laws: whatever is written in whatever order, a list and a watch from any revision tell the same story.

use std::collections::BTreeMap;

use futures::FutureExt;
use proptest::prelude::*;
use tiphys_api::Gvr;
use tiphys_api::schema::builtin;

use crate::auth::User;
use crate::cache::{Delivery, EventKind};
use crate::registry::testing::{self, Fixture};
use crate::registry::{Body, DeleteParams, ListParams, Registry, Request, WatchParams, WriteParams};

const CONFIGMAPS: Gvr = Gvr::new("", "v1", "configmaps");

#[derive(Clone, Debug)]
enum Step {
    /// Writes an object: name, and whether it carries the label that is selected.
    Put(u8, bool, u8),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..5u8, any::<bool>(), any::<u8>()).prop_map(|(n, l, v)| Step::Put(n, l, v)),
        1 => (0..5u8).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 1..30)
}

/// Objects by name, with their bytes.
type State = BTreeMap<String, String>;

struct Cluster {
    fixture: Fixture,
    user: User,
}

impl Cluster {
    fn request<'r>(&'r self, name: &'r str) -> Request<'r> {
        let resource = builtin().get(&CONFIGMAPS).unwrap();
        Request { resource, namespace: "n", name, subresource: "", user: &self.user }
    }

    fn registry(&self) -> &Registry {
        &self.fixture.registry
    }

    async fn take(&self, step: &Step) {
        match step {
            Step::Put(n, labelled, value) => {
                let name = format!("c{n}");
                let labels = if *labelled { r#","labels":{"a":"b"}"# } else { "" };
                let body = format!(r#"{{"metadata":{{"name":"{name}"{labels}}},"data":{{"v":"{value}"}}}}"#);
                let body = Body::Json(body.into());
                let params = WriteParams::default();
                let made = self.registry().create(&self.request(""), body.clone(), &params).await;
                if made.is_err() {
                    self.registry().update(&self.request(&name), body, &params).await.unwrap();
                }
            }
            Step::Delete(n) => {
                drop(self.registry().delete(&self.request(&format!("c{n}")), &DeleteParams::default()).await);
            }
        }
    }

    async fn list(&self, revision: Option<u64>) -> (State, u64) {
        let mut params = ListParams { labels: "a=b".into(), ..ListParams::default() };
        if let Some(revision) = revision {
            params.resource_version = revision.to_string();
            params.resource_version_match = "Exact".into();
        }
        let list = self.registry().list(&self.request(""), &params).await.unwrap();
        (list.items.iter().map(|o| (o.meta().name.to_string(), json(o))).collect(), list.resource_version)
    }

    /// What a watcher that starts from a state holds in the end.
    async fn replay(&self, mut state: State, since: u64) -> State {
        let params = WatchParams {
            labels: "a=b".into(),
            resource_version: since.to_string(),
            ..WatchParams::default()
        };
        let mut watch = self.registry().watch(&self.request(""), &params).await.unwrap();
        self.registry().caches().catch_up().await.unwrap();
        while let Some(Some(batch)) = watch.next().now_or_never() {
            for delivery in batch.unwrap() {
                let Delivery::Event { kind, event } = delivery else { continue };
                let object = event.shown(kind);
                let name = object.meta().name.to_string();
                let before = match kind {
                    EventKind::Deleted => state.remove(&name),
                    _ => state.insert(name.clone(), json(object)),
                };
                assert_eq!(before.is_some(), kind != EventKind::Added, "{kind:?} of {name}");
            }
        }
        state
    }
}

fn json(object: &tiphys_api::Object) -> String {
    String::from_utf8(object.json().to_vec()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn watches_replay_to_what_lists_show(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster { fixture: testing::fixture().await, user: User::default() };
            let mut seen = vec![cluster.list(None).await];
            for step in &steps {
                cluster.take(step).await;
                seen.push(cluster.list(None).await);
            }
            let (last, _) = seen.last().cloned().unwrap();
            for (state, revision) in seen {
                let (exact, _) = cluster.list(Some(revision)).await;
                assert_eq!(exact, state, "list at {revision}");
                assert_eq!(cluster.replay(state, revision).await, last, "watch from {revision}");
            }
        });
    }
}
