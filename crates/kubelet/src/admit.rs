//! Whether this node takes a pod at all. What is refused here has Failed before anything of it was made. Pure.

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod, SecurityContext};

use crate::state::Verdict;
use crate::{pod, security};

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

/// Running without the confinement that was asked for would break the promise.
fn apparmor(pod: &Pod, enabled: bool) -> Option<Verdict> {
    let confined =
        |profile: Option<&AppArmorProfile>| profile.is_some_and(|profile| profile.type_ != "Unconfined");
    let own =
        |context: Option<&SecurityContext>| confined(context.and_then(|c| c.app_armor_profile.as_ref()));
    let asked = confined(security::of_pod(pod).app_armor_profile.as_ref())
        || pod::containers(pod).any(|c| own(c.security_context.as_ref()));
    (asked && !enabled).then(|| Verdict {
        reason: "AppArmor".into(),
        message: "Cannot enforce AppArmor: AppArmor is not enabled on the host".into(),
    })
}

fn sysctls(pod: &Pod) -> Option<Verdict> {
    let why = pod::sysctls(pod).find_map(|(name, _)| forbidden(pod, &name))?;
    Some(Verdict { reason: "SysctlForbidden".into(), message: format!("forbidden sysctl: {why}") })
}

/// Groups that an image adds cannot be kept out: runtimes before containerd 2 always add them.
fn groups(pod: &Pod) -> Option<Verdict> {
    let policy = security::of_pod(pod).supplemental_groups_policy;
    policy.filter(|policy| policy == "Strict").map(|_| Verdict {
        reason: "SupplementalGroupsPolicyNotSupported".into(),
        message: "SupplementalGroupsPolicy=Strict is not supported in this node".into(),
    })
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
