//! What pods have on the node's disk, against limits of their own (`limits.ephemeral-storage`). Pure.

use k8s_openapi::api::core::v1::{Container, Pod};
use tiphys_api::quantity::Quantity;

use crate::pod;
use crate::stats::disk::Disk;
use crate::stats::sample::PodSample;

const STORAGE: &str = "ephemeral-storage";

fn limit(container: &Container) -> Option<Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)?.0.parse().ok()
}

/// Whether a pod has such limits.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    pod::containers(pod).any(|container| limit(container).is_some())
}

/// What all containers of a pod may have together: those without a limit count as nothing.
fn of_pod(pod: &Pod) -> Option<Quantity> {
    let sum =
        |all: &mut dyn Iterator<Item = &Container>| all.filter_map(limit).reduce(|sum, more| sum + more);
    let sidecars = || pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
    let lasting = sum(&mut sidecars().chain(pod::app_containers(pod)));
    let start = pod::init_containers(pod).iter().filter(|c| !pod::is_sidecar(c)).filter_map(limit);
    lasting.into_iter().chain(start).max_by_key(Quantity::value)
}

/// The message with which a pod is evicted that has more than it may.
pub(super) fn exceeded(pod: &Pod, seen: &PodSample, disk: &Disk) -> Option<String> {
    let over = |limit: &Quantity, used: u64| u64::try_from(limit.value()).is_ok_and(|limit| used > limit);
    if let Some(limit) = of_pod(pod).filter(|limit| over(limit, disk.of_pod(seen).bytes)) {
        let what = "Pod ephemeral local storage usage exceeds the total limit of containers";
        return Some(format!("{what} {limit}. "));
    }
    pod::containers(pod).find_map(|container| {
        let name = &container.name;
        let layer = seen.containers.iter().find(|c| c.name == *name)?.layer;
        let limit = limit(container).filter(|limit| over(limit, disk.of_container(name, layer).bytes))?;
        Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stats::disk::Volume;
    use crate::stats::sample::ContainerSample;
    use crate::volumes::usage::Held;

    #[test]
    fn who_has_more_than_it_may_is_told() {
        let container =
            |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {STORAGE: limit}}});
        let spec = json!({"initContainers": [container("i", "512Ki")],
            "containers": [container("c", "1Mi"), container("d", "1Mi"), {"name": "e"}]});
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let held = |bytes| Held { bytes, inodes: 1 };
        let seen = |used: [u64; 3]| {
            let one = |(name, bytes): (&str, u64)| ContainerSample {
                name: name.into(),
                layer: Some(held(bytes)),
                ..ContainerSample::default()
            };
            let containers = ["c", "d", "e"].into_iter().zip(used).map(one).collect();
            PodSample { containers, ..PodSample::default() }
        };
        assert!(is_limited(&pod) && !is_limited(&Pod::default()));
        let none = Disk::default();
        assert_eq!(exceeded(&pod, &seen([1 << 20, 1 << 20, 0]), &none), None);
        let told = exceeded(&pod, &seen([(1 << 20) + 1, 0, 0]), &none).unwrap();
        assert_eq!(told, "Container c exceeded its local ephemeral storage limit \"1Mi\". ");
        let told = exceeded(&pod, &seen([1, 0, 2 << 20]), &none).unwrap();
        assert_eq!(told, "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ");
        let volume = Volume { name: "v".into(), held: held(3 << 20), on_disk: true };
        let disk = Disk { logs: [("c".to_owned(), held(9))].into(), volumes: vec![volume] };
        assert!(exceeded(&pod, &seen([0; 3]), &disk).unwrap().starts_with("Pod ephemeral"));
        let log = Disk { logs: [("d".to_owned(), held(1 << 20))].into(), ..Disk::default() };
        assert!(exceeded(&pod, &seen([0, 1, 0]), &log).unwrap().starts_with("Container d exceeded"));
    }
}
