//! Custom resources over a store: they are there after a restart, and a new schema reads what is stored anew.

use std::sync::Arc;

use tiphys_api::{Gvr, Status, Value, json};
use tiphys_client::{Client, Target, WatchEvent, WatchOptions, WriteOptions};
use tiphys_store::{Embedded, Store, embedded};
use tokio_util::sync::CancellationToken;

use super::Customs;
use crate::auth::User;
use crate::cache::Options;
use crate::local::LocalClient;
use crate::registry::testing::{AllowAll, Fixture, fixture_over};

const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const WIDGETS: Gvr = Gvr::new("example.com", "v1", "widgets");

struct Server {
    client: Arc<dyn Client>,
    _fixture: Fixture,
}

async fn server(store: &Arc<dyn Store>) -> Server {
    let fixture = fixture_over(store.clone(), Options::default()).await;
    let client = LocalClient::new(fixture.registry.clone(), Arc::new(AllowAll), User::apiserver(), "test");
    let client: Arc<dyn Client> = Arc::new(client);
    Customs::start(fixture.registry.clone(), client.clone(), CancellationToken::new()).await.unwrap();
    Server { client, _fixture: fixture }
}

fn definition(default: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "default": default}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })
}

impl Server {
    async fn create(&self, gvr: &Gvr, object: &Value) -> Result<(), Status> {
        let name = object["metadata"]["name"].as_str().unwrap();
        let body = object.to_string().into();
        self.client.create(&Target::new(gvr, "", name), body, &WriteOptions::default()).await.map(drop)
    }

    /// Waits for an event about a definition that is as it should.
    async fn until(&self, holds: impl Fn(&Value) -> bool) {
        let mut events = self.client.watch(&DEFINITIONS, "", &WatchOptions::default()).await.unwrap();
        loop {
            match futures::StreamExt::next(&mut events).await.unwrap().unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object)
                    if holds(&object.value().unwrap()) =>
                {
                    return;
                }
                _ => {}
            }
        }
    }

    async fn field(&self, name: &str) -> Result<Value, Status> {
        let object = self.client.get(&Target::new(&WIDGETS, "", name)).await?;
        Ok(object.value().unwrap()["a"].clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_outlive_the_server_and_follow_their_definition() {
    let store: Arc<dyn Store> = Arc::new(Embedded::in_memory(&embedded::Options::default()).unwrap());
    let first = server(&store).await;
    assert_eq!(first.field("w").await.unwrap_err().code, 404);
    first.create(&DEFINITIONS, &definition("x")).await.unwrap();
    first.until(|definition| super::status::is_true(definition, "Established")).await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    first.create(&WIDGETS, &widget).await.unwrap();
    drop(first);

    let second = server(&store).await;
    assert_eq!(second.field("w").await.unwrap(), "x", "served as soon as the server is");
    // What is stored without a field has whatever default there is now.
    let bare =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "bare", "uid": "u"}});
    let key = "/registry/example.com/widgets/bare";
    store
        .txn(tiphys_store::Txn::new(tiphys_store::Op::put(key, bare.to_string().into_bytes())))
        .await
        .unwrap();
    let mut events = second.client.watch(&WIDGETS, "", &WatchOptions::default()).await.unwrap();
    let mut next = definition("y");
    let current = second.client.get(&Target::new(&DEFINITIONS, "", "widgets.example.com")).await.unwrap();
    next["metadata"]["resourceVersion"] = current.meta().resource_version.to_string().into();
    let target = Target::new(&DEFINITIONS, "", "widgets.example.com");
    second.client.update(&target, next.to_string().into(), &WriteOptions::default()).await.unwrap();
    while futures::StreamExt::next(&mut events).await.is_some() {}
    assert_eq!(second.field("bare").await.unwrap(), "y", "its watch ended when the schema changed");
    assert_eq!(second.field("w").await.unwrap(), "x", "which was written");
}
