//! Mirror pods: how the API sees the pods of manifests.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tiphys_client::typed::Kind;
use tiphys_client::{Api, DeleteOptions};

use crate::context::Context;
use crate::pod;

/// Makes sure that the API has the picture of this pod, and of this version of it.
pub(super) async fn keep(ctx: &Context, pod: &Pod) {
    let api = Api::<Pod>::new(ctx.client.clone(), pod::namespace(pod));
    match api.get(pod::name(pod)).await {
        // Deleted by a user: the pod runs on, so its picture is made anew.
        Ok(known) if pod::is_mirror(&known) && known.metadata.deletion_timestamp.is_some() => {
            remove(ctx, &known).await;
        }
        Ok(known) if pod::annotation(&known, pod::MIRROR) == pod::annotation(pod, pod::HASH) => return,
        Ok(known) if pod::is_mirror(&known) => remove(ctx, &known).await,
        // A pod of the same name that is none of ours stays; so does the mirror that is known already.
        Ok(_) => return,
        Err(status) if status.is("NotFound") => {}
        Err(_) => return,
    }
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

/// Removes the picture of a pod whose manifest is gone.
pub(super) async fn remove(ctx: &Context, pod: &Pod) {
    let api = Api::<Pod>::new(ctx.client.clone(), pod::namespace(pod));
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    match api.delete(pod::name(pod), &options).await {
        Err(status) if !status.is("NotFound") => {
            tracing::warn!(pod = pod::full_name(pod), %status, "cannot remove a mirror pod");
        }
        _ => {}
    }
}
