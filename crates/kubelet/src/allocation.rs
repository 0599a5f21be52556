//! What the node has promised to its pods: which new ones, and which new sizes, fit beside it. Pure.
//!
//! A pod's place is taken from its admission on, and free as soon as nothing of it runs any more: before the API hears of
//! its end, so that a pod that the scheduler sends into the gap finds it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::downward::amount;
use crate::pod;

/// Resources that are counted, in the order in which a lack is told.
const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

type Amounts = BTreeMap<&'static str, i64>;

/// Names of containers, and what each is to have.
pub(crate) type Sizes = BTreeMap<String, ResourceRequirements>;

/// What there is and what is promised. CPU is counted in thousandths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    capacity: Amounts,
    max_pods: i64,
    promised: BTreeMap<String, Amounts>,
}

/// Something of which there is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) resource: &'static str,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Lack {
    /// Whether it would not even do if nobody else had any.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.requested > self.capacity
    }

    /// What people read.
    pub(crate) fn message(&self) -> String {
        let Self { resource, requested, used, capacity } = self;
        format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, \
             capacity: {capacity}"
        )
    }

    /// The same for what can never be.
    pub(crate) fn hopeless_message(&self) -> String {
        let Self { resource, requested, capacity, .. } = self;
        format!("Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}")
    }
}

impl Ledger {
    /// `allocatable` is what pods may have together, by resource.
    pub(crate) fn new(allocatable: &BTreeMap<String, String>, max_pods: u32) -> Self {
        let list = allocatable.iter().map(|(key, text)| (key.clone(), Quantity(text.clone()))).collect();
        let known = COUNTED.into_iter().filter(|key| allocatable.contains_key(*key));
        let capacity = known.map(|key| (key, amount(Some(&list), key))).collect();
        Self { capacity, max_pods: max_pods.into(), ..Self::default() }
    }

    /// Takes a new pod's place, if there is room for it.
    pub(crate) fn admit(&mut self, pod: &Pod) -> Result<(), Lack> {
        let others = self.promised.keys().filter(|uid| *uid != pod::uid(pod)).count();
        let used = i64::try_from(others).unwrap_or(i64::MAX);
        if used >= self.max_pods {
            return Err(Lack { resource: "pods", requested: 1, used, capacity: self.max_pods });
        }
        self.resize(pod)
    }

    /// Takes as much as a pod asks for now, if there is room for it; else it keeps what it had.
    pub(crate) fn resize(&mut self, pod: &Pod) -> Result<(), Lack> {
        let wanted = requests(pod);
        for (key, capacity) in &self.capacity {
            let (requested, used) = (wanted.get(key).copied().unwrap_or(0), self.used(pod::uid(pod), key));
            let before = self.promised.get(pod::uid(pod)).and_then(|own| own.get(key)).copied();
            // Who asks for no more than it has is never refused.
            if requested > before.unwrap_or(0) && requested.saturating_add(used) > *capacity {
                return Err(Lack { resource: key, requested, used, capacity: *capacity });
            }
        }
        self.take(pod);
        Ok(())
    }

    /// Takes the place of a pod that runs already, whether or not there is room.
    pub(crate) fn take(&mut self, pod: &Pod) {
        self.promised.insert(pod::uid(pod).to_owned(), requests(pod));
    }

    /// Gives a pod's place back. Says whether it had one.
    pub(crate) fn release(&mut self, uid: &str) -> bool {
        self.promised.remove(uid).is_some()
    }

    fn used(&self, but: &str, key: &str) -> i64 {
        let others = self.promised.iter().filter(|(uid, _)| *uid != but);
        others.filter_map(|(_, amounts)| amounts.get(key)).fold(0, |sum, more| sum.saturating_add(*more))
    }
}

/// What a pod asks for: its containers together, or what a step of its start needs if that is more, and its overhead.
fn requests(pod: &Pod) -> Amounts {
    let amounts = |key: &'static str| {
        let of = |c: &Container| amount(c.resources.as_ref().and_then(|r| r.requests.as_ref()), key);
        let apps: i64 = pod::app_containers(pod).iter().map(of).fold(0, i64::saturating_add);
        let (mut sidecars, mut start) = (0_i64, 0);
        for container in pod::init_containers(pod) {
            let own = of(container);
            start = start.max(sidecars.saturating_add(own));
            if pod::is_sidecar(container) {
                sidecars = sidecars.saturating_add(own);
            }
        }
        let overhead = amount(pod::spec(pod).overhead.as_ref(), key);
        (key, apps.saturating_add(sidecars).max(start).saturating_add(overhead))
    };
    COUNTED.into_iter().map(amounts).collect()
}

/// Whether two containers' resources are the same amounts, however they are written.
pub(crate) fn same(one: &ResourceRequirements, other: &ResourceRequirements) -> bool {
    changed(one, other).is_empty()
}

/// The resources that differ.
fn changed<'a>(one: &'a ResourceRequirements, other: &'a ResourceRequirements) -> Vec<&'a str> {
    let mut changed = Vec::new();
    for (one, other) in [(&one.requests, &other.requests), (&one.limits, &other.limits)] {
        let keys = one.iter().chain(other).flat_map(BTreeMap::keys);
        let differs = |key: &&String| amount(one.as_ref(), key) != amount(other.as_ref(), key);
        changed.extend(keys.filter(differs).map(String::as_str));
    }
    changed
}

/// Whether a container has to be started again to get other resources.
pub(crate) fn needs_restart(container: &Container, from: &ResourceRequirements) -> bool {
    let to = container.resources.clone().unwrap_or_default();
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    let restarts = |key: &str| {
        policies
            .iter()
            .any(|policy| policy.resource_name == key && policy.restart_policy == "RestartContainer")
    };
    changed(from, &to).into_iter().any(restarts)
}

/// Containers whose size may change while they run.
fn resizable(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    let spec = pod.spec.as_mut().map(|spec| (spec.init_containers.as_deref_mut(), &mut spec.containers));
    let (init, apps) = spec.map_or((None, None), |(init, apps)| (init, Some(apps)));
    let sidecars = init.into_iter().flatten().filter(|c| pod::is_sidecar(c));
    sidecars.chain(apps.into_iter().flatten())
}

/// Gives a new version of a pod the sizes that are promised to it; returns what it asks for instead.
pub(crate) fn hold(pod: &mut Pod, promised: &Sizes) -> Sizes {
    let mut wanted = Sizes::new();
    for container in resizable(pod) {
        let Some(promised) = promised.get(&container.name) else { continue };
        let asked = container.resources.clone().unwrap_or_default();
        if !same(&asked, promised) {
            container.resources = Some(promised.clone());
            wanted.insert(container.name.clone(), asked);
        }
    }
    wanted
}

/// The sizes in a pod's spec.
pub(crate) fn sizes(pod: &mut Pod) -> Sizes {
    resizable(pod).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default())).collect()
}

/// Gives a pod's containers other sizes.
pub(crate) fn apply(pod: &mut Pod, sizes: &Sizes) {
    for container in resizable(pod) {
        if let Some(size) = sizes.get(&container.name) {
            container.resources = Some(size.clone());
        }
    }
}

/// The size that a kubelet before this process had promised a running container, as its status tells.
fn told(status: &ContainerStatus) -> Option<ResourceRequirements> {
    let actual = status.resources.clone()?;
    Some(ResourceRequirements { requests: status.allocated_resources.clone().or(actual.requests), ..actual })
}

/// What is promised to a pod when its actor begins, and what it asks for instead: the spec is given what is promised.
pub(crate) fn begin(pod: &mut Pod) -> (Sizes, Sizes) {
    let mut promised = sizes(pod);
    let status = pod.status.as_ref();
    let lists = status.map(|s| [&s.init_container_statuses, &s.container_statuses]);
    for status in lists.into_iter().flatten().flatten().flatten() {
        if let (Some(size), Some(told)) = (promised.get_mut(&status.name), told(status)) {
            *size = told;
        }
    }
    let wanted = hold(pod, &promised);
    (promised, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, containers: &Value) -> Pod {
        let spec = json!({"containers": containers, "initContainers": [
            {"name": "i", "resources": {"requests": {"cpu": "300m"}}}]});
        serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": spec})).unwrap()
    }

    fn ledger() -> Ledger {
        let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")];
        let allocatable = allocatable.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Ledger::new(&allocatable, 3)
    }

    fn cpu(amount: &str) -> Value {
        json!([{"name": "c", "resources": {"requests": {"cpu": amount}}}])
    }

    #[test]
    fn what_does_not_fit_is_refused_in_the_kubelets_words() {
        let mut ledger = ledger();
        assert_eq!(ledger.admit(&pod("a", &cpu("1500m"))), Ok(()));
        let lack = ledger.admit(&pod("b", &cpu("600m"))).unwrap_err();
        let words = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
        assert_eq!((lack.message().as_str(), lack.is_hopeless()), (words, false));
        let lack = ledger.resize(&pod("a", &cpu("3"))).unwrap_err();
        let words = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000";
        assert_eq!((lack.hopeless_message().as_str(), lack.is_hopeless()), (words, true));
        assert!(ledger.release("a") && !ledger.release("a"));
        assert_eq!(ledger.admit(&pod("b", &cpu("600m"))), Ok(()));
        // What a start needs counts, too.
        assert_eq!(ledger.admit(&pod("c", &json!([]))), Ok(()));
        assert_eq!(ledger.used("b", "cpu"), 300);
        assert_eq!(ledger.admit(&pod("d", &json!([]))), Ok(()));
        assert_eq!(ledger.admit(&pod("e", &json!([]))).unwrap_err().resource, "pods");
    }

    #[test]
    fn sizes_are_held_until_they_are_promised() {
        let promised = sizes(&mut pod("a", &cpu("1")));
        let mut same_size = pod("a", &cpu("1000m"));
        assert!(hold(&mut same_size, &promised).is_empty());
        let mut larger = pod("a", &cpu("2"));
        let wanted = hold(&mut larger, &promised);
        assert_eq!(sizes(&mut larger), promised);
        apply(&mut larger, &wanted);
        assert_eq!(sizes(&mut larger), sizes(&mut pod("a", &cpu("2"))));
    }

    #[test]
    fn the_policy_of_what_changed_decides_on_a_restart() {
        let container = |cpu: &str| -> Container {
            serde_json::from_value(
                json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                    {"resourceName": "memory", "restartPolicy": "RestartContainer"}]}),
            )
            .unwrap()
        };
        let before = container("1").resources.unwrap();
        assert!(!needs_restart(&container("2"), &before));
        let memory = serde_json::from_value(json!({"requests": {"cpu": "1", "memory": "2Gi"}})).unwrap();
        assert!(needs_restart(&container("1"), &memory));
    }
}
