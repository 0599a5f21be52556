//! Images: present, or pulled by the rules of the pull policy, with the credentials of the pod's pull secrets.

mod keyring;

use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod};
use tiphys_runtime::{Auth, Error};

use crate::context::Context;
use crate::pod;
use keyring::Keyring;

/// Why an image is not to be had: reason and message of the waiting state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

fn refused(reason: &'static str, message: impl Into<String>) -> Refused {
    Refused { reason, message: message.into() }
}

/// Makes sure of a container's image; returns its identifier. Every refusal is told as an event.
pub(crate) async fn ensure(ctx: &Context, pod: &Pod, container: &Container) -> Result<String, Refused> {
    let made_sure = by_policy(ctx, pod, container).await;
    made_sure.inspect_err(|refused| {
        let message = format!("Error: {}", refused.reason);
        ctx.event(pod, Some(&container.name), "Warning", "Failed", message);
    })
}

async fn by_policy(ctx: &Context, pod: &Pod, container: &Container) -> Result<String, Refused> {
    let image = container.image.as_deref().unwrap_or_default();
    if !valid(image) {
        let why = format!("couldn't parse image name {image:?}: invalid reference format");
        let message = format!("Failed to apply default image tag {image:?}: {why}");
        ctx.event(pod, Some(&container.name), "Warning", "InspectFailed", message.clone());
        return Err(refused("InvalidImageName", message));
    }
    let policy = policy(container);
    if policy != "Always" {
        let present = ctx.runtime.image_status(image).await;
        match present.map_err(|error| inspect_failed(ctx, pod, container, &error))? {
            Some(present) => {
                let message = format!("Container image {image:?} already present on machine");
                ctx.event(pod, Some(&container.name), "Normal", "Pulled", message);
                return Ok(present.id);
            }
            None if policy == "Never" => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                ctx.event(pod, Some(&container.name), "Warning", "ErrImageNeverPull", message.clone());
                return Err(refused("ErrImageNeverPull", message));
            }
            None => {}
        }
    }
    pull(ctx, pod, container, image).await
}

fn inspect_failed(ctx: &Context, pod: &Pod, container: &Container, error: &Error) -> Refused {
    let image = container.image.as_deref().unwrap_or_default();
    let message = format!("Failed to inspect image {image:?}: {error}");
    ctx.event(pod, Some(&container.name), "Warning", "InspectFailed", message.clone());
    refused("ImageInspectError", message)
}

fn policy(container: &Container) -> &str {
    let latest = |image: &str| {
        let last = image.rsplit('/').next().unwrap_or(image);
        !image.contains('@') && (last.ends_with(":latest") || !last.contains(':'))
    };
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if container.image.as_deref().is_some_and(latest) => "Always",
        _ => "IfNotPresent",
    }
}

/// Whether this can be the name of an image. The runtime has the last word.
fn valid(image: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@+[]".contains(c);
    let path = image.split('@').next().unwrap_or(image);
    let repository = match path.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => path,
    };
    let name = repository.split_once('/').map_or(repository, |(_, rest)| rest);
    !image.is_empty()
        && image.chars().all(allowed)
        && !name.chars().any(|c| c.is_ascii_uppercase())
        && !repository.is_empty()
        && !repository.ends_with('/')
}

async fn pull(ctx: &Context, pod: &Pod, container: &Container, image: &str) -> Result<String, Refused> {
    let name = Some(container.name.as_str());
    ctx.event(pod, name, "Normal", "Pulling", format!("Pulling image {image:?}"));
    let started = Instant::now();
    let credentials = keyring(ctx, pod).await.credentials(image);
    match attempt(ctx, image, &credentials).await {
        Ok(id) => {
            let seconds = started.elapsed().as_secs_f64();
            let size = ctx.runtime.image_status(image).await.ok().flatten().map_or(0, |image| image.size);
            let message = format!(
                "Successfully pulled image {image:?} in {seconds:.3}s ({seconds:.3}s including waiting). \
                 Image size: {size} bytes."
            );
            ctx.event(pod, name, "Normal", "Pulled", message);
            Ok(id)
        }
        Err(error) => {
            let message = format!("Failed to pull image {image:?}: {error}");
            ctx.event(pod, name, "Warning", "Failed", message);
            Err(refused("ErrImagePull", error.to_string()))
        }
    }
}

/// Tries each credential until one is taken; without any, asks anonymously.
async fn attempt(ctx: &Context, image: &str, credentials: &[Auth]) -> Result<String, Error> {
    let mut last = None;
    for auth in credentials {
        match ctx.runtime.pull_image(image, Some(auth), None).await {
            Ok(id) => return Ok(id),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => ctx.runtime.pull_image(image, None, None).await,
    }
}

async fn keyring(ctx: &Context, pod: &Pod) -> Keyring {
    let mut keyring = Keyring::default();
    for secret in pod::spec(pod).image_pull_secrets.iter().flatten() {
        match ctx.secret(pod::namespace(pod), &secret.name).await {
            Ok((Some(data), _)) => keyring.add(&data),
            Ok((None, _)) => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    secret.name
                );
                ctx.event(pod, None, "Warning", "FailedToRetrieveImagePullSecret", message);
            }
            Err(error) => tracing::warn!(secret = secret.name, error, "cannot read a pull secret"),
        }
    }
    keyring
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        for good in ["nginx", "nginx:1.2", "localhost:5000/a/b:x", "a@sha256:00", "Host.example/x"] {
            assert!(valid(good), "{good}");
        }
        for bad in ["", "Nginx Web", "a/B", ":x", "a/", "x/$(y)"] {
            assert!(!valid(bad), "{bad}");
        }
    }

    #[test]
    fn the_default_policy_depends_on_the_tag() {
        let of = |image: &str| {
            let container = Container { image: Some(image.into()), ..Container::default() };
            policy(&container).to_owned()
        };
        assert_eq!(
            (of("a"), of("a:latest"), of("h:1/a")),
            ("Always".into(), "Always".into(), "Always".into())
        );
        assert_eq!((of("a:1"), of("h:1/a@sha256:0")), ("IfNotPresent".into(), "IfNotPresent".into()));
    }
}
