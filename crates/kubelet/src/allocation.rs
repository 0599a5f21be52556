//! What the node has promised to its pods: which new ones, and which new sizes, fit beside it. Pure.
//!
//! A pod's place is taken from its admission on, and free as soon as nothing of it runs any more: before the API hears of
//! its end, so that a pod that the scheduler sends into the gap finds it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::downward::amount;
use crate::pod::{self, Role};

/// Resources that are counted, in the order in which a lack is told.
const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

type Amounts = BTreeMap<&'static str, i64>;

/// Names of containers, and what each is to have.
pub(crate) type Sizes = BTreeMap<String, ResourceRequirements>;

/// A port of the node: its protocol, its number, and the address on which it is wanted (empty: on all).
type Port = (String, i32, String);

/// What a pod has of the node.
#[derive(Clone, Debug, Default)]
struct Share {
    amounts: Amounts,
    ports: Vec<Port>,
}

impl Share {
    fn of(pod: &Pod) -> Self {
        Self { amounts: requests(pod), ports: ports(pod) }
    }
}

/// What there is and what is promised. CPU is counted in thousandths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    capacity: Amounts,
    max_pods: i64,
    promised: BTreeMap<String, Share>,
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

    /// What there is too little of for a new pod, if anything.
    pub(crate) fn lack(&self, pod: &Pod) -> Option<Lack> {
        let others = self.others(pod::uid(pod)).count();
        let used = i64::try_from(others).unwrap_or(i64::MAX);
        if used >= self.max_pods {
            return Some(Lack { resource: "pods", requested: 1, used, capacity: self.max_pods });
        }
        self.lack_of(pod, &requests(pod))
    }

    /// Whether nobody else has the ports of the node that a pod wants.
    pub(crate) fn has_ports(&self, pod: &Pod) -> bool {
        let wanted = ports(pod);
        let mut taken = self.others(pod::uid(pod)).flat_map(|(_, share)| &share.ports);
        wanted.is_empty() || !taken.any(|port| wanted.iter().any(|wanted| collide(wanted, port)))
    }

    /// Takes as much as a pod asks for now, if there is room for it; else it keeps what it had.
    pub(crate) fn resize(&mut self, pod: &Pod) -> Result<(), Lack> {
        match self.lack_of(pod, &requests(pod)) {
            Some(lack) => Err(lack),
            None => {
                self.take(pod);
                Ok(())
            }
        }
    }

    fn lack_of(&self, pod: &Pod, wanted: &Amounts) -> Option<Lack> {
        let own = self.promised.get(pod::uid(pod));
        self.capacity.iter().find_map(|(resource, capacity)| {
            let (requested, capacity) = (wanted.get(resource).copied().unwrap_or(0), *capacity);
            let used = self.used(pod::uid(pod), resource);
            let before = own.and_then(|own| own.amounts.get(resource)).copied();
            // Who asks for no more than it has is never refused.
            let lacks = requested > before.unwrap_or(0) && requested.saturating_add(used) > capacity;
            lacks.then_some(Lack { resource, requested, used, capacity })
        })
    }

    /// Takes the place of a pod, whether or not there is room.
    pub(crate) fn take(&mut self, pod: &Pod) {
        self.promised.insert(pod::uid(pod).to_owned(), Share::of(pod));
    }

    /// Gives a pod's place back. Says whether it had one.
    pub(crate) fn release(&mut self, uid: &str) -> bool {
        self.promised.remove(uid).is_some()
    }

    fn others(&self, uid: &str) -> impl Iterator<Item = (&String, &Share)> {
        self.promised.iter().filter(move |(other, _)| *other != uid)
    }

    fn used(&self, but: &str, key: &str) -> i64 {
        let amounts = self.others(but).filter_map(|(_, share)| share.amounts.get(key));
        amounts.fold(0, |sum, more| sum.saturating_add(*more))
    }
}

/// The ports of the node that a pod wants for its lasting containers.
fn ports(pod: &Pod) -> Vec<Port> {
    let lasting = pod::containers(pod).filter(|c| pod::role(pod, &c.name) != Role::Init);
    let wanted = lasting.flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().filter(|address| address != "0.0.0.0").unwrap_or_default();
        Some((port.protocol.clone().unwrap_or_else(|| "TCP".into()), number, address))
    });
    wanted.collect()
}

fn collide(one: &Port, other: &Port) -> bool {
    let addresses = one.2 == other.2 || one.2.is_empty() || other.2.is_empty();
    addresses && (&one.0, one.1) == (&other.0, other.1)
}

/// What a pod asks for: by itself, or its containers together, or what a step of its start needs if that is more; and its
/// overhead.
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
        let containers = apps.saturating_add(sidecars).max(start);
        (key, pod::own_request(pod, key).unwrap_or(containers).saturating_add(overhead))
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
/// `kept` is what an actor before had written down.
pub(crate) fn begin(pod: &mut Pod, kept: Option<&Sizes>) -> (Sizes, Sizes) {
    let mut promised = sizes(pod);
    let status = pod.status.as_ref();
    let lists = status.map(|s| [&s.init_container_statuses, &s.container_statuses]);
    for status in lists.into_iter().flatten().flatten().flatten() {
        if let (Some(size), Some(told)) = (promised.get_mut(&status.name), told(status)) {
            *size = told;
        }
    }
    for (name, kept) in kept.into_iter().flatten() {
        if let Some(size) = promised.get_mut(name) {
            size.clone_from(kept);
        }
    }
    let wanted = hold(pod, &promised);
    (promised, wanted)
}

/// Whether nothing is promised at all, which cannot change: a pod stays in its class.
pub(crate) fn is_nothing(sizes: &Sizes) -> bool {
    sizes.values().all(|size| size.requests.is_none() && size.limits.is_none())
}

/// Below the pod's directory: what is promised to its containers. Neither the API nor the runtime can tell that of a
/// container that does not run just now.
const KEPT: &str = "allocated.json";

/// Writes down what is promised to a pod with this directory. A kill in between leaves what was written before.
pub(crate) fn keep(dir: &Path, sizes: &Sizes) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let unfinished = dir.join(format!("{KEPT}.new"));
    fs::write(&unfinished, serde_json::to_vec(sizes)?)?;
    fs::rename(unfinished, dir.join(KEPT))
}

/// What was written down; `None` where it was not, or cannot be read.
pub(crate) fn kept(dir: &Path) -> Option<Sizes> {
    serde_json::from_slice(&fs::read(dir.join(KEPT)).ok()?).ok()
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

    fn admit(ledger: &mut Ledger, pod: &Pod) -> Option<Lack> {
        let lack = ledger.lack(pod);
        if lack.is_none() {
            ledger.take(pod);
        }
        lack
    }

    fn cpu(amount: &str) -> Value {
        json!([{"name": "c", "resources": {"requests": {"cpu": amount}}}])
    }

    #[test]
    fn what_does_not_fit_is_refused_in_the_kubelets_words() {
        let mut ledger = ledger();
        assert_eq!(admit(&mut ledger, &pod("a", &cpu("1500m"))), None);
        let lack = admit(&mut ledger, &pod("b", &cpu("600m"))).unwrap();
        let words = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
        assert_eq!((lack.message().as_str(), lack.is_hopeless()), (words, false));
        let lack = ledger.resize(&pod("a", &cpu("3"))).unwrap_err();
        let words = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000";
        assert_eq!((lack.hopeless_message().as_str(), lack.is_hopeless()), (words, true));
        assert!(ledger.release("a") && !ledger.release("a"));
        assert_eq!(admit(&mut ledger, &pod("b", &cpu("600m"))), None);
        // What a start needs counts, too.
        assert_eq!(admit(&mut ledger, &pod("c", &json!([]))), None);
        assert_eq!(ledger.used("b", "cpu"), 300);
        assert_eq!(admit(&mut ledger, &pod("d", &json!([]))), None);
        assert_eq!(admit(&mut ledger, &pod("e", &json!([]))).unwrap().resource, "pods");
    }

    #[test]
    fn a_port_of_the_node_has_one_owner() {
        let wants = |uid: &str, address: &str, protocol: &str| {
            let port = json!({"containerPort": 1, "hostPort": 80, "hostIP": address, "protocol": protocol});
            pod(uid, &json!([{"name": "c", "ports": [port, {"containerPort": 2}]}]))
        };
        let mut ledger = ledger();
        ledger.take(&wants("a", "10.0.0.1", "TCP"));
        assert!(ledger.has_ports(&wants("b", "10.0.0.2", "TCP")) && ledger.has_ports(&wants("b", "", "UDP")));
        assert!(
            !ledger.has_ports(&wants("b", "", "TCP")) && !ledger.has_ports(&wants("b", "0.0.0.0", "TCP"))
        );
        assert!(ledger.has_ports(&wants("a", "", "TCP")), "its own are no others'");
        ledger.release("a");
        assert!(ledger.has_ports(&wants("b", "", "TCP")));
    }

    #[test]
    fn what_a_pod_asks_for_itself_stands_for_its_containers() {
        let mut of_pod = pod("a", &cpu("100m"));
        of_pod.spec.as_mut().unwrap().resources =
            serde_json::from_value(json!({"requests": {"cpu": "1800m"}})).unwrap();
        let lack = admit(&mut ledger(), &of_pod);
        assert_eq!(lack, None);
        of_pod.spec.as_mut().unwrap().resources =
            serde_json::from_value(json!({"requests": {"cpu": "2100m"}})).unwrap();
        assert_eq!(ledger().lack(&of_pod).unwrap().requested, 2100);
    }

    #[test]
    fn what_was_promised_outlives_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pod");
        assert_eq!(kept(&dir), None);
        let promised = sizes(&mut pod("a", &cpu("1")));
        keep(&dir, &promised).unwrap();
        // The container does not run, so its status tells nothing; and the API asks for more by now.
        let mut asks = pod("a", &cpu("2"));
        let (held, wanted) = begin(&mut asks, kept(&dir).as_ref());
        assert_eq!((&held, sizes(&mut asks)), (&promised, promised.clone()));
        assert_eq!(wanted, sizes(&mut pod("a", &cpu("2"))));
        assert!(is_nothing(&sizes(&mut pod("a", &json!([{"name": "c"}])))) && !is_nothing(&promised));
        fs::write(dir.join(KEPT), "{\"c\": ").unwrap();
        assert_eq!(kept(&dir), None);
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
