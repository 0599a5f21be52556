//! Whether this node takes a pod at all. What is refused here has Failed before anything of it was made. Pure.
//!
//! - [`refused`] is about what the node can never do.
//! - [`unwelcome`] is about what the node is just now, and judges a pod only once: one that was taken stays.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod, SecurityContext, Taint};
use tiphys_client::placement::{self, Place};

use crate::eviction::Pressure;
use crate::pod::Qos;
use crate::state::Verdict;
use crate::{pod, security};

const OS_LABEL: &str = "kubernetes.io/os";
const OS: &str = "linux";

/// The node's own object, as far as it decides on pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
}

impl Place for Host {
    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

/// What the node is just now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    pub(crate) pressures: BTreeSet<Pressure>,
    /// The machine goes down.
    pub(crate) shuts_down: bool,
}

/// A namespace of the kernel that a parameter belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Ipc,
    Net,
}

/// The kernel parameters that a pod may set without being trusted: they concern nobody outside it.
const SAFE: &[(&str, Of)] = &[
    ("kernel.shm_rmid_forced", Of::Ipc),
    ("net.ipv4.ip_local_port_range", Of::Net),
    ("net.ipv4.ip_local_reserved_ports", Of::Net),
    ("net.ipv4.ip_unprivileged_port_start", Of::Net),
    ("net.ipv4.ping_group_range", Of::Net),
    ("net.ipv4.tcp_fin_timeout", Of::Net),
    ("net.ipv4.tcp_keepalive_intvl", Of::Net),
    ("net.ipv4.tcp_keepalive_probes", Of::Net),
    ("net.ipv4.tcp_keepalive_time", Of::Net),
    ("net.ipv4.tcp_rmem", Of::Net),
    ("net.ipv4.tcp_syncookies", Of::Net),
    ("net.ipv4.tcp_wmem", Of::Net),
];

/// Why the node does not take the pod, if it does not.
pub(crate) fn refused(pod: &Pod) -> Option<Verdict> {
    sysctls(pod).or_else(|| groups(pod)).or_else(|| apparmor(pod, security::has_apparmor()))
}

/// Why the node does not take a new pod now, whatever there is room for.
pub(crate) fn unwelcome(pod: &Pod, now: &Now) -> Option<Verdict> {
    let verdict = |reason: &str, message: &str| Some(Verdict::new(reason, message));
    if now.shuts_down {
        return verdict("NodeShutdown", "Pod was rejected as the node is shutting down.");
    }
    pressed(pod, &now.pressures).or_else(|| foreign(pod))
}

/// A node that is short of memory takes those who ask for some; one that is short of something else takes nobody.
fn pressed(pod: &Pod, pressures: &BTreeSet<Pressure>) -> Option<Verdict> {
    if pressures.is_empty() || pod::is_critical(pod) {
        return None;
    }
    if pressures.iter().all(|pressure| *pressure == Pressure::Memory) {
        let key = "node.kubernetes.io/memory-pressure".to_owned();
        let taint = Taint { key, effect: "NoSchedule".into(), ..Taint::default() };
        if pod::qos(pod) != Qos::BestEffort || tolerates(pod, &taint) {
            return None;
        }
    }
    let names: Vec<&str> = pressures.iter().map(|pressure| pressure.name()).collect();
    Some(Verdict::new("Evicted", format!("The node had condition: [{}]. ", names.join(" "))))
}

/// Pods for machines of another kind.
fn foreign(pod: &Pod) -> Option<Verdict> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS_LABEL));
    if label.is_some_and(|os| os != OS) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(Verdict::new("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    let os = pod::spec(pod).os.as_ref().filter(|os| os.name != OS);
    os.map(|_| Verdict::new("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"))
}

/// Why a pod that was sent here belongs elsewhere. `ports`: whether its ports of the node are free.
pub(crate) fn misplaced(pod: &Pod, host: &Host, ports: bool) -> Option<Verdict> {
    let failed = |name: &str, why: &str| Verdict::new(name, format!("Predicate {name} failed: {why}"));
    if !placement::fits(pod::spec(pod), host) {
        return Some(failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    if !ports {
        return Some(failed("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    let shut_out = |taint: &Taint| taint.effect == "NoExecute" && !tolerates(pod, taint);
    let tainted = !pod::is_static(pod) && host.taints.iter().any(shut_out);
    tainted.then(|| failed("TaintToleration", "node(s) had taints that the pod didn't tolerate"))
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod::spec(pod).tolerations.iter().flatten().any(|toleration| placement::tolerates(toleration, taint))
}

/// Running without the confinement that was asked for would break the promise.
fn apparmor(pod: &Pod, enabled: bool) -> Option<Verdict> {
    let confined =
        |profile: Option<&AppArmorProfile>| profile.is_some_and(|profile| profile.type_ != "Unconfined");
    let own =
        |context: Option<&SecurityContext>| confined(context.and_then(|c| c.app_armor_profile.as_ref()));
    let asked = confined(security::of_pod(pod).app_armor_profile.as_ref())
        || pod::containers(pod).any(|c| own(c.security_context.as_ref()));
    let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    (asked && !enabled).then(|| Verdict::new("AppArmor", message))
}

fn sysctls(pod: &Pod) -> Option<Verdict> {
    let why = pod::sysctls(pod).find_map(|(name, _)| forbidden(pod, &name))?;
    Some(Verdict::new("SysctlForbidden", format!("forbidden sysctl: {why}")))
}

/// Groups that an image adds cannot be kept out: runtimes before containerd 2 always add them.
fn groups(pod: &Pod) -> Option<Verdict> {
    let policy = security::of_pod(pod).supplemental_groups_policy;
    let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
    let strict = policy.is_some_and(|policy| policy == "Strict");
    strict.then(|| Verdict::new("SupplementalGroupsPolicyNotSupported", message))
}

fn forbidden(pod: &Pod, name: &str) -> Option<String> {
    let Some((_, of)) = SAFE.iter().find(|(safe, _)| *safe == name) else {
        return Some(format!("{name:?} not allowlisted"));
    };
    let spec = pod::spec(pod);
    let (shared, namespace) = match of {
        Of::Ipc => (spec.host_ipc == Some(true), "IPC"),
        Of::Net => (spec.host_network == Some(true), "Net"),
    };
    shared.then(|| format!("{name:?} not allowed with host {namespace} enabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sysctl: &str, host: &str) -> Option<String> {
        let pod = serde_json::json!({"spec": {"containers": [], host: true, "securityContext": {
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": sysctl, "value": "1"}]}}});
        refused(&serde_json::from_value(pod).unwrap()).map(|verdict| verdict.message)
    }

    #[test]
    fn only_parameters_of_the_pods_own_are_taken() {
        assert_eq!(message("kernel.shm_rmid_forced", "hostPID"), None);
        assert_eq!(message("kernel/shm_rmid_forced", "hostPID"), None);
        let unsafe_one = message("kernel.msgmax", "hostPID").unwrap();
        assert_eq!(unsafe_one, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
        let shared = message("kernel.shm_rmid_forced", "hostIPC").unwrap();
        assert!(shared.ends_with("\"kernel.shm_rmid_forced\" not allowed with host IPC enabled"), "{shared}");
        assert!(message("kernel.shm_rmid_forced", "hostNetwork").unwrap().contains("host Net enabled"));
    }

    fn pod(spec: &serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": spec})).unwrap()
    }

    #[test]
    fn a_node_that_is_short_takes_whom_it_can_bear() {
        use Pressure::{Disk, Memory};
        let told = |spec: serde_json::Value, pressures: &[Pressure]| {
            let now = Now { pressures: pressures.iter().copied().collect(), shuts_down: false };
            unwelcome(&pod(&spec), &now).map(|verdict| verdict.message)
        };
        let plain = || serde_json::json!({"containers": [{"name": "c"}]});
        assert_eq!(told(plain(), &[]), None);
        assert_eq!(told(plain(), &[Memory]).unwrap(), "The node had condition: [MemoryPressure]. ");
        let modest =
            serde_json::json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]});
        assert_eq!(told(modest.clone(), &[Memory]), None);
        assert_eq!(told(modest, &[Disk]).unwrap(), "The node had condition: [DiskPressure]. ");
        let mut bears = plain();
        bears["tolerations"] =
            serde_json::json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        assert_eq!(told(bears.clone(), &[Memory]), None);
        assert!(told(bears, &[Memory, Disk]).is_some());
        let mut critical = plain();
        critical["priority"] = 2_000_000_000.into();
        assert_eq!(told(critical, &[Memory, Disk]), None);
    }

    #[test]
    fn who_belongs_elsewhere_is_told_so() {
        let host = Host {
            name: "n1".into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            taints: vec![Taint { key: "t".into(), effect: "NoExecute".into(), ..Taint::default() }],
        };
        let reason = |spec, ports| misplaced(&pod(&spec), &host, ports).map(|verdict| verdict.message);
        let bears = serde_json::json!([{"key": "t", "operator": "Exists", "effect": "NoExecute"}]);
        let with = |selector: &str| serde_json::json!({"containers": [], "nodeSelector": {"disk": selector}, "tolerations": bears});
        assert_eq!(reason(with("ssd"), true), None);
        let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        assert_eq!(reason(with("tape"), false).unwrap(), words);
        assert!(reason(with("ssd"), false).unwrap().starts_with("Predicate NodePorts failed: "));
        let words = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        assert_eq!(reason(serde_json::json!({"containers": []}), true).unwrap(), words);
        let windows = serde_json::json!({"containers": [], "os": {"name": "windows"}});
        assert_eq!(unwelcome(&pod(&windows), &Now::default()).unwrap().reason, "PodOSNotSupported");
        let ends = Now { shuts_down: true, ..Now::default() };
        assert_eq!(unwelcome(&Pod::default(), &ends).unwrap().reason, "NodeShutdown");
    }

    #[test]
    fn what_the_runtime_cannot_keep_is_not_promised() {
        let pod = serde_json::json!({"spec": {"containers": [],
            "securityContext": {"supplementalGroupsPolicy": "Strict"}}});
        let verdict = refused(&serde_json::from_value(pod).unwrap()).unwrap();
        assert_eq!(verdict.reason, "SupplementalGroupsPolicyNotSupported");
        let confined = serde_json::json!({"spec": {"containers": [
            {"name": "c", "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}]}});
        let confined = serde_json::from_value(confined).unwrap();
        let verdict = apparmor(&confined, false).unwrap();
        assert_eq!(verdict.message, "Cannot enforce AppArmor: AppArmor is not enabled on the host");
        assert!(apparmor(&confined, true).is_none() && apparmor(&Pod::default(), false).is_none());
    }
}
