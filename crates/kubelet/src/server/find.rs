//! Finds sandboxes and containers by the names that requests have: in the runtime, which knows them best.

use k8s_openapi::api::core::v1::Pod;
use tiphys_client::Api;
use tiphys_runtime::{Container, ContainerState, Filter, Sandbox};

use crate::context::Context;
use crate::{container, sandbox};

/// Code and text of a refusal.
pub(super) type Refusal = (u16, String);

fn filter(namespace: &str, pod: &str) -> Filter {
    let labels = [(sandbox::POD_NAMESPACE, namespace), (sandbox::POD_NAME, pod)];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Filter { labels, ..Filter::default() }
}

/// The containers of a name, the newest first; those of an older pod of the same name come last.
async fn all(ctx: &Context, namespace: &str, pod: &str, name: &str) -> Result<Vec<Container>, Refusal> {
    let mut filter = filter(namespace, pod);
    filter.labels.insert(container::NAME.into(), name.into());
    let listed = ctx.runtime.list_containers(&filter).await;
    let mut containers = listed.map_err(|error| (500, error.to_string()))?;
    containers.retain(|c| ctx.owns(&c.id));
    containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    Ok(containers)
}

/// The newest container of a name, or the one before it.
pub(super) async fn logged(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    name: &str,
    previous: bool,
) -> Result<Container, Refusal> {
    let containers = all(ctx, namespace, pod, name).await?;
    let made = containers.first().map(|newest| newest.labels.get(sandbox::POD_UID).cloned());
    let mut own = containers.into_iter().filter(|c| Some(c.labels.get(sandbox::POD_UID).cloned()) == made);
    let newest = own.next();
    let wanted = match (previous, newest) {
        (true, Some(_)) => own.next(),
        // Made, but not started yet: what it logged before is what there is.
        (false, Some(c)) if c.state == ContainerState::Created => own.next(),
        (false, newest) => newest,
        (true, None) => None,
    };
    let Some(wanted) = wanted else { return Err(nothing(ctx, namespace, pod, name, previous).await) };
    ctx.runtime.container_status(&wanted.id).await.map_err(|error| (500, error.to_string()))
}

/// Why there is no such log.
async fn nothing(ctx: &Context, namespace: &str, pod: &str, name: &str, previous: bool) -> Refusal {
    let object = match Api::<Pod>::new(ctx.client.clone(), namespace).get(pod).await {
        Ok(object) => object,
        Err(_) => return (404, format!("pod {pod:?} not found")),
    };
    if crate::pod::container(&object, name).is_none() {
        return (404, format!("container {name:?} not found in pod {pod:?}"));
    }
    if previous {
        return (400, format!("previous terminated container {name:?} in pod {pod:?} not found"));
    }
    let lists = object.status.as_ref().map(|s| [&s.init_container_statuses, &s.container_statuses]);
    let status = lists.into_iter().flatten().flatten().flatten().find(|status| status.name == name);
    let waiting = status.and_then(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let reason = waiting.unwrap_or_else(|| "ContainerCreating".into());
    (400, format!("container {name:?} in pod {pod:?} is waiting to start: {reason}"))
}

/// The running container of a name.
pub(super) async fn running(
    ctx: &Context,
    namespace: &str,
    pod: &str,
    name: &str,
) -> Result<String, Refusal> {
    let containers = all(ctx, namespace, pod, name).await?;
    let running = containers.into_iter().find(|c| c.state == ContainerState::Running);
    running.map(|c| c.id).ok_or_else(|| (404, format!("container not found ({name:?})")))
}

/// The sandbox of a pod that runs.
pub(super) async fn sandbox(ctx: &Context, namespace: &str, pod: &str) -> Result<String, Refusal> {
    let listed = ctx.runtime.list_sandboxes(&filter(namespace, pod)).await;
    let sandboxes = listed.map_err(|error| (500, error.to_string()))?;
    let ready =
        sandboxes.into_iter().filter(|s: &Sandbox| s.ready && ctx.owns(&s.id)).max_by_key(|s| s.created_at);
    ready.map(|s| s.id).ok_or_else(|| (404, format!("pod not found ({pod:?})")))
}
