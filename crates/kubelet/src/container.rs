//! A container as the runtime is told to make it. Pure, but for `subPath`s, which are looked up on the node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use tiphys_runtime::model::{Map, Mount, Propagation, Security};
use tiphys_runtime::{ContainerConfig, Resources};

use crate::expand::expand;
use crate::{pod, sandbox};

/// Label: the container's name.
pub(crate) const NAME: &str = "io.kubernetes.container.name";
/// Annotation: what the container was made from, see [`pod::hash`].
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the container was started before.
pub(crate) const RESTARTS: &str = "io.kubernetes.container.restartCount";
/// Annotation: where the container may leave a message.
pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: whether its log stands in for a missing message.
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: seconds to end in, for a kubelet that has lost the pod's object.
pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// All that a container is made from beside its spec.
pub(crate) struct Parts<'a> {
    pub(crate) attempt: u32,
    pub(crate) image: &'a str,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) resources: Resources,
    pub(crate) security: Security,
}

/// The container of this attempt.
pub(crate) fn config(pod: &Pod, container: &Container, parts: Parts<'_>) -> ContainerConfig {
    let lookup = |name: &str| parts.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, &lookup)).collect()
    };
    let mut labels = sandbox::labels(pod);
    labels.insert(NAME.into(), container.name.clone());
    ContainerConfig {
        name: container.name.clone(),
        attempt: parts.attempt,
        image: parts.image.into(),
        user_image: container.image.clone().unwrap_or_default(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: annotations(pod, container, parts.attempt),
        log_path: log_path(&container.name, parts.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        resources: parts.resources,
        security: parts.security,
        env: parts.env,
        mounts: parts.mounts,
    }
}

/// Log file of an attempt, below the pod's log directory.
pub(crate) fn log_path(name: &str, attempt: u32) -> String {
    format!("{name}/{attempt}.log")
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> Map {
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let grace = pod::spec(pod).termination_grace_period_seconds.unwrap_or(30);
    [
        (HASH, pod::hash(container)),
        (RESTARTS, attempt.to_string()),
        (MESSAGE_PATH, message_path(container).to_owned()),
        (MESSAGE_POLICY, policy.to_owned()),
        (GRACE, grace.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Where in the container its last message is expected.
pub(crate) fn message_path(container: &Container) -> &str {
    let path = container.termination_message_path.as_deref();
    path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_MESSAGE_PATH)
}

/// The container's directory below the pod's.
pub(crate) fn directory(pod_dir: &Path, name: &str) -> PathBuf {
    pod_dir.join("containers").join(name)
}

/// The file behind [`message_path`].
pub(crate) fn message_file(pod_dir: &Path, name: &str, attempt: u32) -> PathBuf {
    directory(pod_dir, name).join(format!("{attempt:08x}"))
}

/// The volume mounts of a container. `volumes` tells where each volume is on the node.
pub(crate) fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    env: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    container.volume_mounts.iter().flatten().map(|mount| volume_mount(mount, volumes, env)).collect()
}

fn volume_mount(
    mount: &VolumeMount,
    volumes: &BTreeMap<String, PathBuf>,
    env: &[(String, String)],
) -> Result<Mount, String> {
    let volume = volumes
        .get(&mount.name)
        .ok_or_else(|| format!("cannot find volume {:?} to mount into container", mount.name))?;
    let sub = match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(expression)) => expanded_sub_path(expression, env)?,
        (Some(path), None) => path.clone(),
        (None, None) => String::new(),
    };
    let host_path = if sub.is_empty() { volume.clone() } else { sub_path(volume, &sub)? };
    let read_only = mount.read_only == Some(true);
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path,
        read_only,
        recursive_read_only: read_only && mount.recursive_read_only.as_deref() == Some("Enabled"),
        relabel: false,
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn expanded_sub_path(expression: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::Cell::new(false);
    let lookup = |name: &str| {
        let found = env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        missing.set(missing.get() || found.is_none());
        found
    };
    let path = expand(expression, &lookup);
    match missing.get() {
        true => Err(format!("failed to prepare subPathExpr {expression:?}: missing value for a variable")),
        false => Ok(path),
    }
}

/// A path below a volume, made if absent. It may not leave the volume, by `..` or by a symbolic link.
fn sub_path(volume: &Path, sub: &str) -> Result<PathBuf, String> {
    let relative = Path::new(sub);
    let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
    if !relative.components().all(plain) {
        return Err(format!("subPath {sub:?} must be a relative path below the volume"));
    }
    let fail = |error: std::io::Error| format!("failed to prepare subPath {sub:?}: {error}");
    let root = volume.canonicalize().map_err(fail)?;
    let wanted = root.join(relative);
    // The part that exists is checked before anything is made below it.
    let mut existing = wanted.as_path();
    while existing.symlink_metadata().is_err() {
        existing = existing.parent().unwrap_or(&root);
    }
    let escapes = |path: &Path| path.canonicalize().map(|real| !real.starts_with(&root));
    if escapes(existing).map_err(fail)? {
        return Err(format!("subPath {sub:?} leads out of the volume"));
    }
    if existing != wanted {
        std::fs::create_dir_all(&wanted).map_err(fail)?;
    }
    wanted.canonicalize().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_in_their_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        assert!(sub_path(&volume, "a/b").unwrap().ends_with("v/a/b"));
        assert!(sub_path(&volume, "../x").is_err());
        assert!(sub_path(&volume, "out").unwrap_err().contains("leads out"));
        assert!(sub_path(&volume, "out/new").is_err());
    }

    #[test]
    fn sub_path_expressions_need_their_variables() {
        let env = [("A".to_owned(), "x".to_owned())];
        assert_eq!(expanded_sub_path("p/$(A)", &env), Ok("p/x".into()));
        assert!(expanded_sub_path("p/$(B)", &env).is_err());
    }
}
