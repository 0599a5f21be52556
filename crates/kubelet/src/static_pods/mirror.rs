//! Mirror pods: how the API sees the pods of manifests.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tiphys_api::Meta;
use tiphys_client::typed::{self, Kind};
use tiphys_client::{Api, DeleteOptions, Target};

use crate::context::Context;
use crate::pod;

/// Makes sure that the API has the picture of this pod, and of this version of it.
pub(super) async fn keep(ctx: &Context, pod: &Pod) {
    let target = Target::new(&Pod::GVR, pod::namespace(pod), pod::name(pod));
    match ctx.client.get(&target).await {
        Ok(object) => {
            let Ok(known) = typed::decode::<Pod>(&object) else { return };
            let ends = known.metadata.deletion_timestamp.is_some();
            let same = pod::annotation(&known, pod::MIRROR) == pod::annotation(pod, pod::HASH);
            // A pod of the same name that is none of ours stays; so does the picture that is right.
            if !pod::is_mirror(&known) || same && !ends {
                return;
            }
            // One that a user deletes is made anew: its pod runs on.
            remove(ctx, object.meta()).await;
        }
        Err(status) if status.is("NotFound") => {}
        Err(_) => return,
    }
    let api = Api::<Pod>::new(ctx.client.clone(), pod::namespace(pod));
    if let Err(status) = api.create(&mirror(ctx, pod).await).await {
        tracing::warn!(pod = pod::full_name(pod), %status, "cannot create a mirror pod");
    }
}

async fn mirror(ctx: &Context, pod: &Pod) -> Pod {
    let mut mirror = pod.clone();
    let hash = pod::annotation(pod, pod::HASH).unwrap_or_default().to_owned();
    mirror.metadata.uid = None;
    mirror.metadata.annotations.get_or_insert_default().insert(pod::MIRROR.into(), hash);
    let node = Api::<Node>::new(ctx.client.clone(), "").get(&ctx.config.node_name).await;
    mirror.metadata.owner_references = node.ok().map(|node| {
        vec![OwnerReference {
            api_version: "v1".into(),
            controller: Some(true),
            kind: "Node".into(),
            name: ctx.config.node_name.clone(),
            uid: node.uid().to_owned(),
            ..OwnerReference::default()
        }]
    });
    mirror
}

/// Removes a picture, and no other pod of its name.
pub(super) async fn remove(ctx: &Context, picture: &Meta) {
    let target = Target::new(&Pod::GVR, &picture.namespace, &picture.name);
    let options = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some(picture.uid.to_string()),
        ..DeleteOptions::default()
    };
    match ctx.client.delete(&target, &options).await {
        Err(status) if !matches!(status.code, 404 | 409) => {
            tracing::warn!(pod = picture.key(), %status, "cannot remove a mirror pod");
        }
        _ => {}
    }
}
