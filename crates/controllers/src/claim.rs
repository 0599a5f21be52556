//! Which objects belong to a controller: those it owns, less those its selector left, plus matching orphans.
//!
//! The rules are those of Kubernetes' controller reference manager: an object of another controller is never touched, a
//! controller under deletion neither adopts nor releases, and whoever adopts first checks with the API server that it
//! still exists itself, since its cache may be older than its own deletion.

use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, OwnerRef, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, PatchKind, Target, WriteOptions};

/// What to do about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It belongs to the controller.
    Ours,
    /// It should: add the reference.
    Adopt,
    /// It no longer does: drop the reference.
    Release,
    /// It is none of its business.
    Ignore,
}

/// Decides about one object.
pub(crate) fn claim(
    owner_uid: &str,
    owner_deleting: bool,
    selector: &LabelSelector,
    object: &Object,
) -> Claim {
    let meta = object.meta();
    let matches = selector.matches(&meta.labels);
    match meta.controller() {
        Some(owner) if *owner.uid != *owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Ours,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_deleting || !matches || meta.deleted.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Makes the controller the owner of an orphan. Returns the changed object.
pub(crate) async fn adopt<T: Kind, O: Kind>(
    client: &dyn Client,
    owner: &O,
    object: &Object,
) -> Result<Object, Status> {
    let live = client.get(&Target::new(&O::GVR, owner.namespace(), owner.name())).await?;
    if *live.meta().uid != *owner.uid() || live.meta().deleted.is_some() {
        let why = "the owner is being deleted or was replaced and adopts nothing";
        return Err(Status::conflict(&O::GVR, owner.name(), why));
    }
    let mut owners: Vec<Value> = object.meta().owners.iter().map(reference).collect();
    owners.push(json!(owner.controller_reference()));
    set_owners::<T>(client, object, owners).await
}

/// Drops the controller from an object's owners.
pub(crate) async fn release<T: Kind>(
    client: &dyn Client,
    owner_uid: &str,
    object: &Object,
) -> Result<Object, Status> {
    let others = object.meta().owners.iter().filter(|owner| *owner.uid != *owner_uid);
    set_owners::<T>(client, object, others.map(reference).collect()).await
}

async fn set_owners<T: Kind>(
    client: &dyn Client,
    object: &Object,
    owners: Vec<Value>,
) -> Result<Object, Status> {
    let meta = object.meta();
    // The revision makes the change of a list safe against changes by others.
    let patch = json!({"metadata": {
        "ownerReferences": if owners.is_empty() { Value::Null } else { Value::Array(owners) },
        "resourceVersion": meta.resource_version.to_string(),
        "uid": meta.uid,
    }});
    let target = Target::new(&T::GVR, &meta.namespace, &meta.name);
    client.patch(&target, PatchKind::Merge, patch.to_string().into(), &WriteOptions::default()).await
}

/// An owner reference as JSON.
pub(crate) fn reference(owner: &OwnerRef) -> Value {
    let mut reference = json!({
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    });
    for (name, set) in [("controller", owner.controller), ("blockOwnerDeletion", owner.block_owner_deletion)]
    {
        if set {
            reference[name] = true.into();
        }
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(label: &str, controller: Option<&str>) -> Object {
        let owner =
            |uid| json!([{"apiVersion": "v1", "kind": "K", "name": "o", "uid": uid, "controller": true}]);
        let owners = controller.map_or(Value::Null, owner);
        Object::from_value(
            &json!({"metadata": {"name": "p", "labels": {"app": label}, "ownerReferences": owners}}),
        )
        .unwrap()
    }

    #[test]
    fn claims_follow_selector_and_owner() {
        let selector = LabelSelector::parse("app=web").unwrap();
        let decide = |object: &Object, deleting| claim("me", deleting, &selector, object);
        assert_eq!(decide(&pod("web", Some("me")), false), Claim::Ours);
        assert_eq!(decide(&pod("other", Some("me")), false), Claim::Release);
        assert_eq!(decide(&pod("other", Some("me")), true), Claim::Ignore);
        assert_eq!(decide(&pod("web", Some("you")), false), Claim::Ignore);
        assert_eq!(decide(&pod("web", None), false), Claim::Adopt);
        assert_eq!(decide(&pod("web", None), true), Claim::Ignore);
        assert_eq!(decide(&pod("other", None), false), Claim::Ignore);
    }
}
