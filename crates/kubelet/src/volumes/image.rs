//! Image volumes: the files of an image, read-only.
//!
//! Runtimes of today mount images themselves, if a container's mount says so. For older ones the image is mounted below
//! the pod's directory, and shown like any other volume.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};
use tiphys_runtime::Error;

use super::Place;
use crate::context::Context;
use crate::{images, mounts, pod};

/// Makes sure of the image, by its pull policy, and finds or makes the place where its files are. The image is looked for
/// once: a pod shows the same files as long as it lives, however often its volumes are made again.
pub(super) async fn place(
    ctx: &Context,
    pod: &Pod,
    volume: &str,
    source: &ImageVolumeSource,
) -> Result<Place, String> {
    let uid = pod::uid(pod);
    let known = ctx.shown_images.lock().get(uid).and_then(|images| images.get(volume).cloned());
    let image = match known {
        Some(image) => image,
        None => {
            let image = find(ctx, pod, source).await?;
            let mut all = ctx.shown_images.lock();
            all.entry(uid.to_owned()).or_default().insert(volume.to_owned(), image.clone());
            image
        }
    };
    let shown = |path: PathBuf, image| Place { path, image, read_only: true, relabel: false, block: false };
    let at = super::directory(&ctx.pod_dir(uid), "image", volume);
    let made = tokio::fs::create_dir_all(&at).await.and_then(|()| mounts::is_point(&at));
    if made.map_err(|error| error.to_string())? {
        return Ok(shown(at, None));
    }
    match ctx.runtime.mount_image(&image, &at).await {
        Ok(()) => Ok(shown(at, None)),
        Err(Error::Unimplemented(_)) => Ok(shown(PathBuf::new(), Some(image))),
        Err(error) => Err(error.to_string()),
    }
}

async fn find(ctx: &Context, pod: &Pod, source: &ImageVolumeSource) -> Result<String, String> {
    // The rules and events are those of a container's image, but no container is told of.
    let user = Container {
        image: source.reference.clone(),
        image_pull_policy: source.pull_policy.clone(),
        ..Container::default()
    };
    let image = images::ensure(ctx, pod, &user).await;
    image.map_err(|refused| format!("{}: {}", refused.reason, refused.message))
}
