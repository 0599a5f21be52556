//! Volumes beyond what the conformance programme asks for: what must fail and how it is told, who may do what with them,
//! and that nothing is left of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Run, Table};
use crate::harness::{Cluster, Namespace, eventually};

pub const CASES: Table = &[
    ("host-paths-are-of-their-type-or-awaited", Run::Shared(host_paths)),
    ("parts-of-volumes-do-not-lead-out-of-them", Run::Shared(parts)),
    ("mounts-travel-as-far-as-they-are-let", Run::Shared(propagation)),
    ("claims-have-the-pods-group-and-may-be-read-only", Run::Shared(claims)),
    ("image-volumes-show-an-images-files", Run::Shared(images)),
    ("volumes-of-the-mode-block-are-devices", Run::SharedIf(no_loop_device, devices)),
    ("an-overfull-volume-evicts-its-pod", Run::Shared(overfull)),
    ("who-writes-more-than-its-limit-is-evicted", Run::Shared(over_limit)),
    ("volumes-of-pods-that-went-while-nobody-looked-are-removed", Run::Own(left_behind)),
];

/// A pod that sleeps, with this in its only container and in its spec.
fn pod(name: &str, container: Value, spec: Value) -> Value {
    let mut made = json!({"name": "c", "image": "tiphys.local/hello:1", "command": ["/bin/sleep", "3600"]});
    merge(&mut made, container);
    let mut all = json!({"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "containers": [made]});
    merge(&mut all, spec);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": all})
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        into[key] = value;
    }
}

/// A directory of the node for this case.
fn host_dir(ns: &Namespace<'_>) -> Result<PathBuf> {
    let dir = ns.cluster.scratch(&ns.name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The messages of the events of a reason about a pod.
fn events(ns: &Namespace<'_>, pod: &str, reason: &str) -> Result<Vec<String>> {
    let selector = format!("involvedObject.name={pod},reason={reason}");
    let found = ns.get(&["events", "--field-selector", &selector])?;
    let items = found["items"].as_array().context("no events")?;
    Ok(items.iter().filter_map(|event| Some(event["message"].as_str()?.to_owned())).collect())
}

fn told(ns: &Namespace<'_>, pod: &str, reason: &str, message: &str) -> Result<()> {
    eventually(message, || {
        let found = events(ns, pod, reason)?;
        ensure!(found.iter().any(|found| found.contains(message)), "{found:?}");
        Ok(())
    })
}

fn host_paths(ns: &Namespace<'_>) -> Result<()> {
    let dir = host_dir(ns)?;
    fs::write(dir.join("file"), "")?;
    let path = |name: &str| dir.join(name).display().to_string();
    let volume =
        |name: &str, at: String, kind: &str| json!({"name": name, "hostPath": {"path": at, "type": kind}});
    let good = [
        volume("made", path("made"), "DirectoryOrCreate"),
        volume("empty", path("empty"), "FileOrCreate"),
        volume("file", path("file"), "File"),
        volume("null", "/dev/null".into(), "CharDevice"),
    ];
    let mounts = ["made", "empty", "file", "null"]
        .map(|name| json!({"name": name, "mountPath": format!("/v/{name}")}));
    ns.apply(&pod("good", json!({"volumeMounts": mounts}), json!({"volumes": good})).to_string())?;
    let late = json!({"volumes": [volume("a", path("late"), "Directory"), volume("b", path("file"), "Socket"),
        {"name": "m", "configMap": {"name": "absent"}}]});
    ns.apply(&pod("bad", json!({}), late).to_string())?;
    ns.wait("condition=Ready", &["pod/good"])?;
    ensure!(dir.join("made").is_dir() && dir.join("empty").is_file());
    let check = |name: &str, at: &str, what: &str| {
        let why = format!("hostPath type check failed: {} is not a {what}", path(at));
        told(ns, "bad", "FailedMount", &format!("MountVolume.SetUp failed for volume {name:?} : {why}"))
    };
    check("a", "late", "directory")?;
    check("b", "file", "socket file")?;
    told(
        ns,
        "bad",
        "FailedMount",
        "MountVolume.SetUp failed for volume \"m\" : configmap \"absent\" not found",
    )
}

/// Someone with a volume prepares a trap for the next container that mounts a part of it.
fn parts(ns: &Namespace<'_>) -> Result<()> {
    let dir = host_dir(ns)?;
    let (volume, secret) = (dir.join("volume"), dir.join("secret"));
    fs::create_dir_all(volume.join("inside"))?;
    fs::create_dir(&secret)?;
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777))?;
    symlink(&secret, volume.join("trap"))?;
    symlink("inside", volume.join("link"))?;
    let volumes = json!([{"name": "v", "hostPath": {"path": volume}}]);
    let mount = |part: &str| json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": part}]});
    ns.apply(&pod("bad", mount("trap/below"), json!({"volumes": volumes})).to_string())?;
    let variable = json!({"env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/a", "subPathExpr": "link/$(NAME)/x"},
            {"name": "v", "mountPath": "/b", "subPath": "inside", "readOnly": true}]});
    ns.apply(&pod("good", variable, json!({"volumes": volumes})).to_string())?;
    ns.wait("condition=Ready", &["pod/good"])?;
    ns.kubectl(&["exec", "good", "--", "touch", "/a/file"])?;
    ensure!(volume.join("inside/good/x/file").exists());
    ensure!(fs::metadata(volume.join("inside/good"))?.mode() & 0o777 == 0o777, "as the volume's own");
    let refused = ns.kubectl_fails(&["exec", "good", "--", "touch", "/b/file"])?;
    ensure!(refused.contains("Read-only"), "{refused}");
    let waits = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError";
    ns.wait(waits, &["pod/bad"])?;
    told(ns, "bad", "Failed", "failed to prepare subPath for volumeMount \"v\" of container \"c\"")?;
    ensure!(fs::read_dir(&secret)?.next().is_none(), "nothing is made outside");
    ns.kubectl(&["delete", "pod", "good", "bad"])?;
    ensure!(volume.join("inside/good/x/file").exists(), "what was mounted is not removed with the pod");
    Ok(())
}

fn propagation(ns: &Namespace<'_>) -> Result<()> {
    let dir = host_dir(ns)?;
    fs::create_dir_all(dir.join("late"))?;
    let tmpfs = |at: &str| {
        crate::harness::run(
            std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(dir.join(at)),
        )
    };
    fs::create_dir(dir.join("early"))?;
    // As systemd has it on every node; here for this directory alone.
    let itself =
        |args: &[&str]| crate::harness::run(std::process::Command::new("mount").args(args).arg(&dir));
    itself(&["--bind", &dir.display().to_string()])?;
    itself(&["--make-shared"])?;
    tmpfs("early")?;
    let shown = shown(ns, &dir, || tmpfs("late").map(drop));
    for at in ["late", "early", ""] {
        crate::harness::run(std::process::Command::new("umount").arg("-l").arg(dir.join(at)))?;
    }
    shown
}

fn shown(ns: &Namespace<'_>, dir: &std::path::Path, later: impl Fn() -> Result<()>) -> Result<()> {
    let mount = |at: &str, more: Value| {
        let mut mount = json!({"name": "v", "mountPath": at});
        merge(&mut mount, more);
        mount
    };
    let mounts = json!([
        mount("/none", json!({})),
        mount("/host", json!({"mountPropagation": "HostToContainer"})),
        mount("/closed", json!({"readOnly": true, "recursiveReadOnly": "Enabled"})),
        mount("/half", json!({"readOnly": true})),
    ]);
    let volumes = json!({"volumes": [{"name": "v", "hostPath": {"path": dir}}]});
    ns.apply(&pod("p", json!({"volumeMounts": mounts}), volumes).to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    later()?;
    let listed = ns.kubectl(&["exec", "p", "--", "cat", "/proc/mounts"])?;
    let has = |path: &str| listed.lines().any(|line| line.split(' ').nth(1) == Some(path));
    ensure!(has("/host/late") && !has("/none/late"), "{listed}");
    ensure!(has("/none/early") && has("/closed/early"), "{listed}");
    ns.kubectl(&["exec", "p", "--", "touch", "/half/early/file"])?;
    let refused = ns.kubectl_fails(&["exec", "p", "--", "touch", "/closed/early/file"])?;
    ensure!(refused.contains("Read-only"), "{refused}");
    let status = ns.get(&["pod", "p"])?["status"]["containerStatuses"][0]["volumeMounts"].clone();
    let modes: Vec<&str> = status
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["recursiveReadOnly"].as_str())
        .collect();
    ensure!(modes == ["Enabled", "Disabled"], "{status}");
    ns.kubectl(&["delete", "pod", "p"]).map(drop)
}

fn claims(ns: &Namespace<'_>) -> Result<()> {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    let made = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": claim});
    ns.apply(&made.to_string())?;
    let volumes = json!({"securityContext": {"fsGroup": 2000, "runAsUser": 1234}, "volumes": [
        {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "closed", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}},
        {"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]});
    let mounts =
        ["claim", "closed", "own"].map(|name| json!({"name": name, "mountPath": format!("/v/{name}")}));
    ns.apply(&pod("p", json!({"volumeMounts": mounts}), volumes).to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    ns.kubectl(&["exec", "p", "--", "touch", "/v/claim/a", "/v/own/b"])?;
    let listed = ns.kubectl(&["exec", "p", "--", "ls", "/v/claim", "/v/own"])?;
    ensure!(listed.lines().filter(|line| line.contains(" 1234 2000 ")).count() == 2, "{listed}");
    ensure!(listed.contains("42777 0 2000 /v/claim"), "{listed}");
    let refused = ns.kubectl_fails(&["exec", "p", "--", "touch", "/v/closed/c"])?;
    ensure!(refused.contains("Read-only"), "{refused}");
    let owned = ns.get(&["pvc", "p-own"])?;
    ensure!(owned["metadata"]["ownerReferences"][0]["name"] == "p", "{owned}");
    ns.kubectl(&["delete", "pod", "p"])?;
    ns.wait("delete", &["pvc/p-own"])?;
    ns.kubectl(&["delete", "pvc", "c"]).map(drop)
}

fn images(ns: &Namespace<'_>) -> Result<()> {
    let image = |reference: &str| json!({"name": "i", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}});
    let mounts = json!({"volumeMounts": [{"name": "i", "mountPath": "/i"},
        {"name": "i", "mountPath": "/tools", "subPath": "bin"}]});
    let volumes = json!({"volumes": [image("tiphys.local/hello:1")]});
    ns.apply(&pod("p", mounts.clone(), volumes).to_string())?;
    ns.apply(&pod("bad", mounts, json!({"volumes": [image("tiphys.local/absent:1")]})).to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    ns.kubectl(&["exec", "p", "--", "/tools/readlink", "/i/bin/cat"])?;
    let refused = ns.kubectl_fails(&["exec", "p", "--", "touch", "/i/new"])?;
    ensure!(refused.contains("Read-only"), "{refused}");
    told(ns, "bad", "Failed", "Failed to pull image \"tiphys.local/absent:1\"")
}

fn no_loop_device() -> Option<String> {
    let found = std::path::Path::new("/dev/loop-control").exists();
    (!found).then(|| "this machine has no loop devices".to_owned())
}

/// A file that the kernel shows as a disk, until it is dropped.
struct Disk(String);

impl Disk {
    fn new(file: &std::path::Path) -> Result<Self> {
        fs::write(file, vec![0; 1 << 20])?;
        let made =
            crate::harness::run(std::process::Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        Ok(Self(made.trim().to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

fn devices(ns: &Namespace<'_>) -> Result<()> {
    let disk = Disk::new(&host_dir(ns)?.join("disk"))?;
    let node = ns.get(&["nodes"])?["items"][0]["metadata"]["name"].clone();
    let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
    let name = format!("{}-v", ns.name);
    let common = json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": name});
    let with = |more: Value| {
        let mut spec = common.clone();
        merge(&mut spec, more);
        spec
    };
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": with(json!({"capacity": {"storage": "1Mi"}, "local": {"path": disk.0},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}))});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": with(json!({"resources": {"requests": {"storage": "1Mi"}}}))});
    let volumes = json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]});
    let user = pod("p", json!({"volumeDevices": [{"name": "d", "devicePath": "/dev/disk"}]}), volumes);
    ns.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [volume, claim, user]}).to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let mut write = ns.kubectl_command();
    crate::harness::feed(write.args(["exec", "-i", "p", "--", "tee", "/dev/disk"]), b"written by the pod")?;
    let mut start = [0; 18];
    std::io::Read::read_exact(&mut fs::File::open(&disk.0)?, &mut start)?;
    ensure!(start == *b"written by the pod", "{start:?}");
    ns.kubectl(&["delete", "pod/p", "pvc/c"])?;
    ns.kubectl(&["delete", "pv", &name]).map(drop)
}

fn overfull(ns: &Namespace<'_>) -> Result<()> {
    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]});
    ns.apply(&pod("p", json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), volumes).to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let mut write = ns.kubectl_command();
    crate::harness::feed(write.args(["exec", "-i", "p", "--", "tee", "/v/big"]), &vec![b'x'; 2 << 20])?;
    ns.wait("jsonpath={.status.phase}=Failed", &["pod/p"])?;
    let message = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
    let status = ns.get(&["pod", "p"])?["status"].clone();
    ensure!(status["reason"] == "Evicted" && status["message"] == message, "{status}");
    told(ns, "p", "Evicted", message.trim())
}

fn over_limit(ns: &Namespace<'_>) -> Result<()> {
    let limit = |size: &str| json!({"limits": {"ephemeral-storage": size}});
    let other = json!({"name": "d", "image": "tiphys.local/hello:1", "resources": limit("100Mi")});
    let mut made = pod("p", json!({"resources": limit("1Mi")}), json!({}));
    made["spec"]["containers"].as_array_mut().context("no containers")?.push(other);
    ns.apply(&made.to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let mut write = ns.kubectl_command();
    let exec = ["exec", "-i", "p", "-c", "c", "--", "tee", "/big"];
    crate::harness::feed(write.args(exec), &vec![b'x'; 3 << 20])?;
    ns.wait("jsonpath={.status.phase}=Failed", &["pod/p"])?;
    let message = "Container c exceeded its local ephemeral storage limit \"1Mi\". ";
    let status = ns.get(&["pod", "p"])?["status"].clone();
    ensure!(status["reason"] == "Evicted" && status["message"] == message, "{status}");
    told(ns, "p", "Evicted", message.trim())
}

/// Directories and mounts of a cluster's pods.
fn left(cluster: &Cluster) -> Result<Vec<String>> {
    let data = cluster.data_dir();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let under = data.display().to_string();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut found: Vec<String> =
        points.filter(|at| at.starts_with(&under) && at.contains("/pods/")).map(str::to_owned).collect();
    for entry in fs::read_dir(data.join("kubelet/pods"))? {
        found.push(entry?.path().display().to_string());
    }
    Ok(found)
}

fn left_behind() -> Result<()> {
    let cluster = Cluster::start("volumes", 27)?;
    let ns = cluster.namespace("v")?;
    let dir = host_dir(&ns)?;
    fs::create_dir_all(dir.join("kept/part"))?;
    fs::write(dir.join("kept/part/file"), "")?;
    let volumes = json!({"volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "host", "hostPath": {"path": dir.join("kept")}}]});
    let mounts = json!([{"name": "memory", "mountPath": "/m"}, {"name": "host", "mountPath": "/h", "subPath": "part"}]);
    ns.apply(&pod("p", json!({"volumeMounts": mounts}), volumes).to_string())?;
    ns.wait("condition=Ready", &["pod/p"])?;
    ensure!(left(&cluster)?.iter().filter(|at| at.contains("volume")).count() >= 2, "{:?}", left(&cluster)?);
    // The pod goes from the API in the same moment in which everything is killed.
    ns.kubectl(&["delete", "pod", "p", "--grace-period=0", "--force", "--wait=false"])?;
    cluster.kill()?;
    cluster.up()?;
    eventually("nothing is left of the pod", || {
        let left: Vec<String> =
            left(&cluster)?.into_iter().filter(|at| !at.contains("kube-system")).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    ensure!(dir.join("kept/part/file").exists(), "what was mounted is not removed");
    cluster.remove().map(drop)
}
