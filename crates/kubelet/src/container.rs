//! A container as the runtime is told to make it. Pure.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Container, Pod, VolumeDevice, VolumeMount};
use tiphys_runtime::model::{Device, Map, Mount, Propagation, Security};
use tiphys_runtime::{ContainerConfig, Resources};

use crate::expand::expand;
use crate::volumes::{self, Place, Places};
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
    pub(crate) devices: Vec<Device>,
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
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()).unwrap_or_default(),
        resources: parts.resources,
        security: parts.security,
        env: parts.env,
        mounts: parts.mounts,
        devices: parts.devices,
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

/// Something to be mounted at a place of its own before the container is made, see [`crate::volumes::bind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Name of the volume.
    pub(crate) name: String,
    /// Where the volume is.
    pub(crate) volume: PathBuf,
    /// Path below it; empty for all of it.
    pub(crate) path: String,
    /// Where it is to be mounted.
    pub(crate) place: PathBuf,
    /// Whether the mounts below are to be read-only too.
    pub(crate) recursive_read_only: bool,
}

/// The volume mounts of a container, and what has to be mounted for them first. `volumes` tells where each volume is on
/// the node, `dir` is the pod's directory.
pub(crate) fn mounts(
    container: &Container,
    volumes: &Places,
    env: &[(String, String)],
    dir: &Path,
) -> Result<(Vec<Mount>, Vec<Part>), String> {
    let (mut mounts, mut parts) = (Vec::new(), Vec::new());
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let place = volumes.get(&mount.name).ok_or_else(|| {
            format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)
        })?;
        let sub = sub_path(mount, env)?;
        let mut made = volume_mount(mount, place);
        let recursive_read_only = recursively_read_only(mount);
        if place.image.is_some() {
            made.image_sub_path = sub;
        } else if !sub.is_empty() || recursive_read_only {
            made.host_path = volumes::sub_path_place(dir, &mount.name, &container.name, index);
            parts.push(Part {
                name: mount.name.clone(),
                volume: place.path.clone(),
                path: sub,
                place: made.host_path.clone(),
                recursive_read_only,
            });
        }
        mounts.push(made);
    }
    Ok((mounts, parts))
}

/// The devices of a container that are volumes.
pub(crate) fn devices(container: &Container, volumes: &Places) -> Result<Vec<Device>, String> {
    let device = |device: &VolumeDevice| {
        let place = volumes.get(&device.name).filter(|place| place.block);
        let place = place.ok_or_else(|| {
            format!("cannot find volume {:?} to pass into container {:?}", device.name, container.name)
        })?;
        let permissions = if place.read_only { "r" } else { "mrw" };
        Ok(Device {
            container_path: device.device_path.clone(),
            host_path: place.path.clone(),
            permissions: permissions.to_owned(),
        })
    };
    container.volume_devices.iter().flatten().map(device).collect()
}

/// Whether a mount is read-only with all that is mounted below it. This kubelet sees to it itself, whatever the runtime
/// can do, so that what is possible is always done.
pub(crate) fn recursively_read_only(mount: &VolumeMount) -> bool {
    let asked = mount.recursive_read_only.as_deref();
    mount.read_only == Some(true) && matches!(asked, Some("Enabled" | "IfPossible"))
}

fn volume_mount(mount: &VolumeMount, place: &Place) -> Mount {
    Mount {
        container_path: absolute(&mount.mount_path),
        host_path: place.path.clone(),
        read_only: place.read_only || mount.read_only == Some(true),
        relabel: place.relabel && *SELINUX,
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
        image: place.image.clone(),
        ..Mount::default()
    }
}

/// Whether files on this node have `SELinux` labels.
static SELINUX: LazyLock<bool> = LazyLock::new(|| Path::new("/sys/fs/selinux/enforce").exists());

/// The part of the volume that is mounted; empty for all of it.
fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<String, String> {
    match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(expression)) if !expression.is_empty() => expanded_sub_path(expression, env),
        (path, _) => Ok(path.clone().unwrap_or_default()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_know_their_volume_and_what_must_be_bound_first() {
        let container = serde_json::json!({"name": "c", "volumeMounts": [
            {"name": "a", "mountPath": "/a"},
            {"name": "b", "mountPath": "b", "subPathExpr": "x/$(A)", "mountPropagation": "Bidirectional"},
            {"name": "b", "mountPath": "/r", "readOnly": true, "recursiveReadOnly": "Enabled"},
            {"name": "i", "mountPath": "/i", "subPath": "p"}]});
        let container: Container = serde_json::from_value(container).unwrap();
        let place = |path: &str| Place { path: path.into(), ..Place::default() };
        let read_only = Place { read_only: true, ..place("/vol/a") };
        let image = Place { image: Some("img:1".into()), read_only: true, ..Place::default() };
        let volumes: Places =
            [("a".into(), read_only), ("b".into(), place("/vol/b")), ("i".into(), image)].into();
        let env = [("A".to_owned(), "y".to_owned())];
        let (mounts, parts) = super::mounts(&container, &volumes, &env, Path::new("/pod")).unwrap();
        assert_eq!((mounts[0].host_path.as_path(), mounts[0].read_only), (Path::new("/vol/a"), true));
        assert_eq!(mounts[1].container_path, "/b");
        assert_eq!(mounts[1].propagation, Propagation::Bidirectional);
        assert_eq!(mounts[1].host_path, Path::new("/pod/volume-subpaths/b/c/1"));
        assert_eq!((parts[0].path.as_str(), parts[0].recursive_read_only), ("x/y", false));
        assert_eq!((parts[1].path.as_str(), parts[1].recursive_read_only), ("", true));
        assert_eq!((mounts[3].image.as_deref(), mounts[3].image_sub_path.as_str()), (Some("img:1"), "p"));
        assert_eq!((mounts.len(), parts.len()), (4, 2));
        assert!(devices(&container, &volumes).unwrap().is_empty());
        let mut with_device = container.clone();
        let device = VolumeDevice { name: "d".into(), device_path: "/dev/x".into() };
        with_device.volume_devices = Some(vec![device]);
        assert!(devices(&with_device, &volumes).is_err());
        let block = Place { block: true, ..place("/dev/loop9") };
        let found = devices(&with_device, &[("d".into(), block)].into()).unwrap();
        assert_eq!((found[0].host_path.to_str(), found[0].permissions.as_str()), (Some("/dev/loop9"), "mrw"));
        let missing = super::mounts(&container, &Places::new(), &env, Path::new("/pod")).unwrap_err();
        assert_eq!(missing, "cannot find volume \"a\" to mount into container \"c\"");
    }

    #[test]
    fn sub_path_expressions_need_their_variables() {
        let env = [("A".to_owned(), "x".to_owned())];
        assert_eq!(expanded_sub_path("p/$(A)", &env), Ok("p/x".into()));
        assert!(expanded_sub_path("p/$(B)", &env).is_err());
    }
}
