//! Every kind of the table takes every verb: none is forgotten, and none fails on the server's side.

use tiphys_api::schema::{Resource, builtin};
use tiphys_api::{Object, Status};

use crate::auth::User;
use crate::registry::testing::{self, Fixture};
use crate::registry::{
    Body, DeleteParams, Deleted, ListParams, PatchType, Registry, Request, WatchParams, WriteParams,
};

async fn create(registry: &Registry, request: &Request<'_>) -> Result<Object, Status> {
    let body = Body::Json(r#"{"metadata":{"name":"x"}}"#.into());
    registry.create(request, body, &WriteParams::default()).await.map(|written| written.object)
}

/// The life of one object; only a missing field may keep it from being made.
async fn live(registry: &Registry, collection: &Request<'_>) -> Result<bool, Status> {
    let one = Request { name: "x", ..*collection };
    let since = registry.list(collection, &ListParams::default()).await?.resource_version;
    let made = match create(registry, collection).await {
        Err(status) if status.is("Invalid") => return Ok(false),
        made => made?,
    };
    assert!(registry.get(&one, "").await?.json() == made.json());
    let label = Body::Json(r#"{"metadata":{"labels":{"a":"b"}}}"#.into());
    let written = registry.patch(&one, PatchType::Merge, label, &WriteParams::default()).await?;
    assert_eq!(written.object.meta().labels.get("a"), Some("b"));
    let replaced = Body::Json(written.object.json().clone());
    let same = registry.update(&one, replaced, &WriteParams::default()).await?.object;
    assert_eq!(
        same.meta().resource_version,
        written.object.meta().resource_version,
        "a PUT of itself is no change"
    );
    let listed =
        registry.list(collection, &ListParams { labels: "a=b".into(), ..ListParams::default() }).await?;
    assert_eq!(listed.items.len(), 1);
    match registry.delete(&one, &DeleteParams::default()).await? {
        Deleted::Gone(object) => assert!(object.meta().resource_version > same.meta().resource_version),
        Deleted::Terminating(object) => assert!(object.meta().deleted.is_some()),
    }
    let params = WatchParams { resource_version: since.to_string(), ..WatchParams::default() };
    registry.caches().catch_up().await?;
    let mut watch = registry.watch(collection, &params).await?;
    assert_eq!(watch.next().await.map(|batch| batch.map(|b| b.len())), Some(Ok(3)));
    Ok(true)
}

fn stored() -> impl Iterator<Item = &'static std::sync::Arc<Resource>> {
    builtin().iter().filter(|r| r.has_verb("create") && r.has_verb("get"))
}

#[tokio::test]
async fn every_kind_takes_every_verb() {
    let Fixture { registry, _stop } = testing::fixture().await;
    let user = User::default();
    let (mut lived, mut all) = (0, 0);
    for resource in stored() {
        let namespace = if resource.namespaced { "ns" } else { "" };
        let request = Request { resource, namespace, name: "", subresource: "", user: &user };
        let outcome = live(&registry, &request).await;
        lived += usize::from(outcome.unwrap_or_else(|status| panic!("{}: {status:?}", resource.gvr)));
        all += 1;
    }
    assert!(all > 60 && lived > 20, "{lived} of {all} kinds live with a name alone");
}

#[test]
fn versions_of_a_kind_select_the_same_fields() {
    for resource in stored() {
        let storage = builtin().storage(&resource.gvr);
        assert_eq!(resource.field_labels.len(), storage.field_labels.len(), "{}", resource.gvr);
    }
}
