//! Which pod goes first, and what it is told. Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;

use super::Signal;
use super::decide::Met;
use crate::downward::amount;
use crate::pod;

/// A pod and what it uses of what is short.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) uid: String,
    pub(super) pod: Pod,
    pub(super) used: u64,
    /// By container.
    pub(super) containers: Vec<(String, u64)>,
}

/// What a pod asked for of it.
fn request(pod: &Pod, signal: Signal) -> u64 {
    let all = pod::app_containers(pod).iter().map(|c| of_container(c, signal)).sum::<u64>();
    all.max(pod::init_containers(pod).iter().map(|c| of_container(c, signal)).max().unwrap_or_default())
}

fn of_container(container: &k8s_openapi::api::core::v1::Container, signal: Signal) -> u64 {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let asked = requests.filter(|requests| requests.contains_key(signal.resource()));
    asked.map_or(0, |requests| u64::try_from(amount(Some(requests), signal.resource())).unwrap_or_default())
}

/// In the order in which they go: those that use more than they asked for, of these the least important, of these who uses
/// most beyond its request.
pub(super) fn rank(mut pods: Vec<Candidate>, signal: Signal) -> Vec<Candidate> {
    pods.retain(|candidate| !pod::is_critical(&candidate.pod));
    pods.sort_by_cached_key(|candidate| {
        let asked = request(&candidate.pod, signal);
        let priority = pod::spec(&candidate.pod).priority.unwrap_or_default();
        let beyond = i128::from(candidate.used) - i128::from(asked);
        // Processes are not asked for.
        let modest = signal != Signal::Processes && beyond <= 0;
        (modest, priority, Reverse(beyond))
    });
    pods
}

/// What the pod is told.
pub(super) fn message(met: &Met, candidate: &Candidate) -> String {
    let (resource, available) = (met.signal.resource(), met.signal.written(met.available));
    let threshold = &met.threshold;
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {available}. "
    );
    // Nobody asks for inodes or processes, so nobody has more than it asked for.
    let asked_for = matches!(resource, "memory" | "ephemeral-storage");
    for (name, used) in candidate.containers.iter().filter(|_| asked_for) {
        let Some(container) = pod::container(&candidate.pod, name) else { continue };
        let asked = of_container(&container, met.signal);
        if *used > asked {
            let (used, asked) = (met.signal.written(*used), written_request(met.signal, &container, asked));
            text += &format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
        }
    }
    text
}

/// A request as the pod wrote it.
fn written_request(signal: Signal, container: &k8s_openapi::api::core::v1::Container, asked: u64) -> String {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests
        .and_then(|all| all.get(signal.resource()))
        .map_or_else(|| asked.to_string(), |quantity| quantity.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, priority: i32, request: &str, used: u64) -> Candidate {
        let container = serde_json::json!({"name": "c", "resources": {"requests": {"memory": request}}});
        let pod = serde_json::json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [container]}});
        let pod = serde_json::from_value(pod).unwrap();
        Candidate { uid: name.into(), pod, used, containers: vec![("c".into(), used)] }
    }

    #[test]
    fn greed_goes_before_priority_and_priority_before_use() {
        let pods = vec![
            candidate("modest", 0, "1Gi", 900 << 20),
            candidate("important", 10, "0", 800 << 20),
            candidate("greedy", 0, "100Mi", 500 << 20),
            candidate("greediest", 0, "0", 600 << 20),
            candidate("critical", 2_000_000_000, "0", 999 << 20),
        ];
        let order: Vec<String> = rank(pods, Signal::Memory).into_iter().map(|c| c.uid).collect();
        assert_eq!(order, ["greediest", "greedy", "important", "modest"]);
    }

    #[test]
    fn the_message_is_kubernetes() {
        let met =
            Met { signal: Signal::Memory, available: 51_200 << 10, threshold: "100Mi".into(), grace: 0 };
        let text = message(&met, &candidate("p", 0, "100Mi", 300 << 20));
        assert_eq!(
            text,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 300Mi, request is 100Mi, has larger consumption of memory. "
        );
    }
}
