//! What a container may do: the pod's and the container's `securityContext` merged, in the runtime's terms.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use std::path::Path;
use tiphys_runtime::Image;
use tiphys_runtime::model::{Namespace, Namespaces, Profile, Security, Selinux};

use crate::pod;

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How a pod's containers share namespaces; `pid` for the containers differs from the sandbox's.
pub(crate) fn namespaces(pod: &Pod) -> Namespaces {
    let spec = pod::spec(pod);
    let node_or =
        |node: Option<bool>, other: Namespace| if node == Some(true) { Namespace::Node } else { other };
    let shared = spec.share_process_namespace == Some(true);
    Namespaces {
        network: node_or(spec.host_network, Namespace::Pod),
        pid: node_or(spec.host_pid, if shared { Namespace::Pod } else { Namespace::Container }),
        ipc: node_or(spec.host_ipc, Namespace::Pod),
        target: String::new(),
    }
}

/// Lets a container see the processes of another one, given by its identifier, unless it sees them already.
pub(crate) fn share(namespaces: &mut Namespaces, target: String) {
    if namespaces.pid == Namespace::Container {
        namespaces.pid = Namespace::Target;
    }
    namespaces.target = target;
}

/// The pod's security context, or an empty one.
pub(crate) fn of_pod(pod: &Pod) -> PodSecurityContext {
    pod::spec(pod).security_context.clone().unwrap_or_default()
}

/// Fails if the pod asks for users of its own, which this kubelet cannot give: running it as the node's users would
/// break the promise.
pub(crate) fn check_users(pod: &Pod) -> Result<(), String> {
    match pod::spec(pod).host_users {
        Some(false) => {
            Err("can't set `spec.hostUsers: false`, runtime does not support user namespaces".into())
        }
        _ => Ok(()),
    }
}

/// Whether the kernel confines processes by AppArmor.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether any container asks for all privileges.
pub(crate) fn any_privileged(pod: &Pod) -> bool {
    let privileged = |context: &Option<SecurityContext>| context.as_ref()?.privileged;
    let ephemeral = pod::ephemeral_containers(pod).iter().map(|c| privileged(&c.security_context));
    pod::containers(pod).map(|c| privileged(&c.security_context)).chain(ephemeral).any(|it| it == Some(true))
}

/// A container's security. `seccomp` is the directory of the node's seccomp profiles.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    image: &Image,
    seccomp: &Path,
) -> Result<Security, String> {
    let shared = of_pod(pod);
    let own = container.security_context.clone().unwrap_or_default();
    check_non_root(pod, container, &shared, &own, image)?;
    // An image that names no user means root; runtimes refuse a group without a user.
    let of_image = image.uid.or(image.username.is_empty().then_some(0));
    let user = own.run_as_user.or(shared.run_as_user).or(of_image);
    let groups = shared.supplemental_groups.clone().unwrap_or_default();
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(ToString::to_string).collect() };
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Ok(Security {
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        privileged: own.privileged == Some(true),
        namespaces: namespaces(pod),
        selinux: own.se_linux_options.as_ref().or(shared.se_linux_options.as_ref()).map(selinux),
        run_as_user: user,
        run_as_username: if user.is_none() { image.username.clone() } else { String::new() },
        run_as_group: own.run_as_group.or(shared.run_as_group),
        supplemental_groups: groups.into_iter().chain(shared.fs_group).collect(),
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: profile(own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref()), seccomp),
        apparmor: own.app_armor_profile.as_ref().or(shared.app_armor_profile.as_ref()).map(apparmor),
    })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    shared: &PodSecurityContext,
    own: &SecurityContext,
    image: &Image,
) -> Result<(), String> {
    if own.run_as_non_root.or(shared.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let which = format!("(pod: \"{}\", container: {})", pod::full_name(pod), container.name);
    match own.run_as_user.or(shared.run_as_user) {
        Some(0) => Err(format!("container's runAsUser breaks non-root policy {which}")),
        Some(_) => Ok(()),
        None if image.uid == Some(0) || (image.uid.is_none() && image.username.is_empty()) => {
            Err(format!("container has runAsNonRoot and image will run as root {which}"))
        }
        None if image.uid.is_none() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {which}",
            image.username
        )),
        None => Ok(()),
    }
}

pub(crate) fn selinux(from: &SELinuxOptions) -> Selinux {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Selinux {
        user: text(&from.user),
        role: text(&from.role),
        kind: text(&from.type_),
        level: text(&from.level),
    }
}

/// A seccomp profile; none asked for means none.
pub(crate) fn profile(from: Option<&SeccompProfile>, dir: &Path) -> Profile {
    match from.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => Profile::RuntimeDefault,
        Some(("Localhost", Some(file))) => Profile::Localhost(dir.join(file).display().to_string()),
        _ => Profile::Unconfined,
    }
}

fn apparmor(from: &AppArmorProfile) -> Profile {
    match (from.type_.as_str(), from.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Profile::RuntimeDefault,
        ("Localhost", Some(name)) => Profile::Localhost(name.into()),
        _ => Profile::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(pod: serde_json::Value, image: &Image) -> Result<Security, String> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        of_container(&pod, &pod::app_containers(&pod)[0], image, Path::new("/seccomp"))
    }

    #[test]
    fn the_containers_own_settings_win() {
        let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"hostPID": true,
            "securityContext": {"runAsUser": 5, "fsGroup": 9, "supplementalGroups": [7],
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 6, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}}]}});
        let s = security(pod, &Image::default()).unwrap();
        assert_eq!((s.run_as_user, s.supplemental_groups), (Some(6), vec![7, 9]));
        assert_eq!(s.seccomp, Profile::Localhost("/seccomp/a.json".into()));
        assert!(s.no_new_privileges && s.drop_capabilities == ["ALL"]);
        assert_eq!(s.namespaces.pid, Namespace::Node);
    }

    #[test]
    fn non_root_is_checked_against_the_image() {
        let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {
            "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}});
        let refused = security(pod.clone(), &Image::default()).unwrap_err();
        assert_eq!(
            refused,
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(security(pod.clone(), &Image { uid: Some(1000), ..Image::default() }).is_ok());
        let named = Image { username: "web".into(), ..Image::default() };
        assert!(security(pod, &named).unwrap_err().contains("non-numeric user (web)"));
    }
}
