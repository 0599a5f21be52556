//! A component's view: watches replay what lists show, and refusals are the authorizer's.

use std::sync::Arc;

use super::*;
use crate::registry::testing::{self, Fixture};

struct OnlyReads;

#[async_trait]
impl Authorizer for OnlyReads {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match attributes.verb {
            "get" | "list" | "watch" => Decision::Allow,
            _ => Decision::NoOpinion(String::new()),
        }
    }
}

const CONFIGMAPS: Gvr = Gvr::new("", "v1", "configmaps");

#[tokio::test]
async fn every_call_is_authorized() {
    let Fixture { registry, _stop } = testing::fixture().await;
    let user = User { name: "reader".into(), ..User::default() };
    let client = LocalClient::new(registry, Arc::new(OnlyReads), user, "test");
    assert!(client.list(&CONFIGMAPS, "", &ListOptions::default()).await.unwrap().items.is_empty());
    let refused =
        client.create(&Target::new(&CONFIGMAPS, "default", ""), "{}".into(), &WriteOptions::default()).await;
    assert_eq!(
        refused.unwrap_err().message,
        r#"configmaps is forbidden: User "reader" cannot create resource "configmaps" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn a_watch_sees_what_is_written() {
    let Fixture { registry, _stop } = testing::fixture().await;
    let client = LocalClient::new(registry, Arc::new(testing::AllowAll), User::default(), "test");
    let mut watch = client.watch(&CONFIGMAPS, "default", &WatchOptions::default()).await.unwrap();
    let target = Target::new(&CONFIGMAPS, "default", "");
    let body = r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#;
    let made = client.create(&target, body.into(), &WriteOptions::default()).await.unwrap();
    let Some(Ok(WatchEvent::Added(seen))) = watch.next().await else { panic!("no event") };
    assert_eq!(seen.json(), made.json());
    let target = Target::new(&CONFIGMAPS, "default", "a");
    assert!(client.delete(&target, &DeleteOptions::default()).await.unwrap().is_none());
    let Some(Ok(WatchEvent::Deleted(gone))) = watch.next().await else { panic!("no event") };
    assert!(gone.meta().resource_version > made.meta().resource_version);
}
