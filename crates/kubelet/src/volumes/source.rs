//! What a volume is, once all that it refers to has been fetched.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, NFSVolumeSource, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeSpec, Pod, Volume,
};
use tiphys_api::quantity::Quantity;
use tiphys_client::Api;
use tiphys_client::typed::Kind;

use super::files::Gathered;
use super::mount::Medium;
use super::writer::Payload;
use super::{Place, image};
use crate::context::Context;
use crate::downward::amount;
use crate::pod;

/// Who made a volume, told by its annotation.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// One volume, all references resolved.
pub(super) struct Resolved {
    /// Its name in the pod.
    pub(super) name: String,
    /// The name under which it is told of: a claim's volume has its own.
    pub(super) shown: String,
    pub(super) source: Source,
    /// Whether the pod asks for a claim, or a server, to be read only.
    pub(super) read_only: bool,
}

/// What is to be mounted or made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    EmptyDir(Medium),
    HostPath {
        path: PathBuf,
        kind: String,
    },
    /// A directory of this node that is a volume of the cluster. `make`: a provisioner thought of it, and it is made at its
    /// first use; another must be there, or what is to be mounted on it is not.
    Local {
        path: PathBuf,
        make: bool,
    },
    Nfs {
        source: String,
        options: Vec<String>,
    },
    Files {
        payload: Payload,
        secret: bool,
        plugin: &'static str,
    },
    /// A device of this node.
    Block(PathBuf),
    /// All is done.
    Ready(Place),
}

/// Why there is no source.
pub(super) enum Error {
    /// A claim, or its volume, is not as it must be.
    Claim { name: String, why: String },
    /// Anything else.
    Other(String),
}

impl From<String> for Error {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl Error {
    /// The message of the event.
    pub(super) fn told(&self, pod: &Pod, volume: &str) -> String {
        match self {
            Self::Claim { name, why } => format!(
                "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to \
                 process volumes=[{volume}]: error processing PVC {}/{name}: {why}",
                pod::namespace(pod)
            ),
            Self::Other(why) => format!("MountVolume.SetUp failed for volume {volume:?} : {why}"),
        }
    }
}

/// Finds out what a volume is.
pub(super) async fn resolve(gathered: &mut Gathered<'_>, volume: &Volume) -> Result<Resolved, Error> {
    let pod = gathered.pod;
    if let Some(claim) = &volume.persistent_volume_claim {
        return claimed(gathered.ctx, pod, volume, &claim.claim_name, claim.read_only == Some(true)).await;
    }
    if volume.ephemeral.is_some() {
        let name = format!("{}-{}", pod::name(pod), volume.name);
        return claimed(gathered.ctx, pod, volume, &name, false).await;
    }
    let mut read_only = false;
    let source = if let Some(empty) = &volume.empty_dir {
        Source::EmptyDir(medium(pod, empty, gathered.facts.allocatable.get("memory"))?)
    } else if let Some(host) = &volume.host_path {
        host_path(host)
    } else if let Some(server) = &volume.nfs {
        read_only = server.read_only == Some(true);
        nfs(server, &[], read_only)
    } else if let Some(of) = &volume.image {
        Source::Ready(image::place(gathered.ctx, pod, &volume.name, of).await?)
    } else if let Some(driver) = &volume.csi {
        return Err(no_driver(&driver.driver).into());
    } else {
        let (payload, secret, plugin) = gathered.payload(volume).await?;
        Source::Files { payload, secret, plugin }
    };
    Ok(Resolved { name: volume.name.clone(), shown: volume.name.clone(), source, read_only })
}

fn host_path(host: &HostPathVolumeSource) -> Source {
    Source::HostPath { path: host.path.clone().into(), kind: host.type_.clone().unwrap_or_default() }
}

fn nfs(server: &NFSVolumeSource, options: &[String], read_only: bool) -> Source {
    let read_only = read_only.then(|| "ro".to_owned());
    let options = read_only.into_iter().chain(options.iter().cloned()).collect();
    Source::Nfs { source: format!("{}:{}", server.server, server.path), options }
}

fn no_driver(driver: &str) -> String {
    format!(
        "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {driver} not found in the list of \
         registered CSI drivers"
    )
}

/// What an `emptyDir` is made of. Memory is never more than the pod may use, or all pods together.
fn medium(pod: &Pod, empty: &EmptyDirVolumeSource, allocatable: Option<&String>) -> Result<Medium, String> {
    let bytes = |text: &str| text.parse::<Quantity>().map_or(0, |size| size.value());
    match empty.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let limits = [
                empty.size_limit.as_ref().map_or(0, |limit| bytes(&limit.0)),
                memory_limit(pod),
                allocatable.map_or(0, |text| bytes(text)),
            ];
            Ok(Medium::Memory(limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(0)))
        }
        "HugePages" => page_size(pod).map(Medium::HugePages),
        other => match other.strip_prefix("HugePages-") {
            Some(size) => Ok(Medium::HugePages(kernel_size(size))),
            None => Err(format!("unknown storage medium {other:?}")),
        },
    }
}

/// The memory that all containers together may use; 0 where one has no limit.
fn memory_limit(pod: &Pod) -> i64 {
    let of_pod = pod::spec(pod).resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let of_pod = amount(of_pod, "memory");
    if of_pod > 0 {
        return of_pod;
    }
    let mut sum = 0;
    let lasting = pod::init_containers(pod).iter().filter(|container| pod::is_sidecar(container));
    for container in lasting.chain(pod::app_containers(pod)) {
        match amount(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()), "memory") {
            0 => return 0,
            limit => sum += limit,
        }
    }
    sum
}

/// The size of huge pages that the pod's containers ask for, if it is one.
fn page_size(pod: &Pod) -> Result<String, String> {
    let requests =
        pod::containers(pod).filter_map(|c| c.resources.as_ref()?.requests.as_ref()).flat_map(|r| r.keys());
    let mut sizes: Vec<&str> = requests.filter_map(|name| name.strip_prefix("hugepages-")).collect();
    sizes.sort_unstable();
    sizes.dedup();
    match sizes.as_slice() {
        [size] => Ok(kernel_size(size)),
        [] => Err("hugePages storage requested, but there is no resource request for huge pages.".into()),
        _ => Err("medium: HugePages can't be used if container requests multiple huge page sizes".into()),
    }
}

/// `2Mi` as the kernel writes it: `2M`.
fn kernel_size(size: &str) -> String {
    size.trim_end_matches('i').to_owned()
}

async fn claimed(
    ctx: &Context,
    pod: &Pod,
    volume: &Volume,
    claim: &str,
    read_only: bool,
) -> Result<Resolved, Error> {
    let failed = |why: String| Error::Claim { name: claim.to_owned(), why };
    let claims = Api::<PersistentVolumeClaim>::new(ctx.client.clone(), pod::namespace(pod));
    let fetched = claims.get(claim).await;
    let fetched = fetched
        .map_err(|status| failed(format!("failed to fetch PVC from API server: {}", status.message)))?;
    if volume.ephemeral.is_some() && !is_owner(pod, &fetched) {
        let why = format!(
            "PVC {}/{claim} was not created for pod {} (pod is not owner)",
            pod::namespace(pod),
            pod::name(pod)
        );
        return Err(failed(why));
    }
    let bound = bound_to(&fetched).map_err(|why| failed(why.to_owned()))?;
    let volumes = Api::<PersistentVolume>::new(ctx.client.clone(), "");
    let found = volumes.get(bound).await;
    let found = found.map_err(|status| {
        failed(format!("failed to fetch PV {bound} from API server: {}", status.message))
    })?;
    check_back(&found, &fetched).map_err(failed)?;
    let source = of_volume(&found)?;
    check_mode(pod, &volume.name, matches!(source, Source::Block(_))).map_err(failed)?;
    Ok(Resolved { name: volume.name.clone(), shown: bound.to_owned(), source, read_only })
}

fn is_owner(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && owner.uid == pod::uid(pod))
}

/// The volume that a claim is bound to.
fn bound_to(claim: &PersistentVolumeClaim) -> Result<&str, &'static str> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted");
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound");
    }
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if volume.is_empty() { Err("PVC has empty pvc.Spec.VolumeName") } else { Ok(volume) }
}

/// Whether the volume says the same: two claims may name it.
fn check_back(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = volume.name();
    let to = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let uid = to.map(|to| to.uid.as_deref().unwrap_or_default());
    match uid {
        None => Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        )),
        Some(uid) if uid != claim.uid() => Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {uid} does not point to claim.UID {}",
            claim.uid()
        )),
        Some(_) => Ok(()),
    }
}

/// A device is no directory: containers must ask for what the volume is.
fn check_mode(pod: &Pod, volume: &str, block: bool) -> Result<(), String> {
    let mut containers = pod::containers(pod);
    let wrong = match block {
        true => containers.any(|c| c.volume_mounts.iter().flatten().any(|mount| mount.name == volume)),
        false => containers.any(|c| c.volume_devices.iter().flatten().any(|device| device.name == volume)),
    };
    let (mode, list) = if block { ("Block", "volumeMounts") } else { ("Filesystem", "volumeDevices") };
    match wrong {
        true => Err(format!("volume {volume} has volumeMode {mode}, but is specified in {list}")),
        false => Ok(()),
    }
}

fn of_volume(volume: &PersistentVolume) -> Result<Source, String> {
    let empty = PersistentVolumeSpec::default();
    let spec = volume.spec.as_ref().unwrap_or(&empty);
    if spec.volume_mode.as_deref() == Some("Block") {
        let local = spec.local.as_ref().map(|local| local.path.clone().into());
        return local.map(Source::Block).ok_or_else(|| "no volume plugin matched".into());
    }
    if let Some(host) = &spec.host_path {
        let annotations = volume.metadata.annotations.as_ref();
        let provisioned = annotations.is_some_and(|all| all.contains_key(PROVISIONED_BY));
        let make = provisioned && host.type_.as_deref() == Some("DirectoryOrCreate");
        return Ok(if make {
            Source::Local { path: host.path.clone().into(), make }
        } else {
            host_path(host)
        });
    }
    if let Some(local) = &spec.local {
        return Ok(Source::Local { path: local.path.clone().into(), make: false });
    }
    if let Some(server) = &spec.nfs {
        let options = spec.mount_options.as_deref().unwrap_or_default();
        return Ok(nfs(server, options, server.read_only == Some(true)));
    }
    match &spec.csi {
        Some(csi) => Err(no_driver(&csi.driver)),
        None => Err("no volume plugin matched".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn memory_is_never_more_than_the_pod_may_use() {
        let pod = |limits: &[&str]| -> Pod {
            let container = |limit: &&str| match *limit {
                "" => json!({"name": "c"}),
                limit => json!({"name": "c", "resources": {"limits": {"memory": limit}}}),
            };
            from(json!({"spec": {"containers": limits.iter().map(container).collect::<Vec<_>>()}}))
        };
        let size = |limits: &[&str], own: &str, node: &str| {
            let empty = json!({"medium": "Memory", "sizeLimit": own});
            medium(&pod(limits), &from(empty), Some(&node.to_owned())).unwrap()
        };
        assert_eq!(size(&["1Mi", "2Mi"], "1Gi", "4Gi"), Medium::Memory(3 << 20));
        assert_eq!(size(&["1Mi", ""], "2Gi", "1Gi"), Medium::Memory(1 << 30));
        assert_eq!(size(&["1Gi"], "1Mi", "4Gi"), Medium::Memory(1 << 20));
        assert_eq!(size(&[""], "0", "1Ki"), Medium::Memory(1 << 10));
    }

    #[test]
    fn huge_pages_have_one_size() {
        let pod = |names: &[&str]| -> Pod {
            let requests: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), json!("1Gi"))).collect();
            from(json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}))
        };
        let of = |names: &[&str], text: &str| medium(&pod(names), &from(json!({"medium": text})), None);
        assert_eq!(of(&["hugepages-2Mi"], "HugePages"), Ok(Medium::HugePages("2M".into())));
        assert_eq!(of(&[], "HugePages-1Gi"), Ok(Medium::HugePages("1G".into())));
        assert!(of(&["hugepages-2Mi", "hugepages-1Gi"], "HugePages").is_err());
        assert!(of(&[], "HugePages").is_err() && of(&[], "Paper").is_err());
    }

    #[test]
    fn a_claim_and_its_volume_must_agree() {
        let claim = |spec: Value, phase: &str| -> PersistentVolumeClaim {
            from(json!({"metadata": {"uid": "u"}, "spec": spec, "status": {"phase": phase}}))
        };
        let good = claim(json!({"volumeName": "v"}), "Bound");
        assert_eq!(bound_to(&good), Ok("v"));
        assert_eq!(bound_to(&claim(json!({}), "Pending")), Err("PVC is not bound"));
        assert!(bound_to(&claim(json!({}), "Bound")).is_err());
        let volume = |uid: Option<&str>| -> PersistentVolume {
            let reference = uid.map(|uid| json!({"uid": uid}));
            from(json!({"metadata": {"name": "v"}, "spec": {"claimRef": reference}}))
        };
        assert!(check_back(&volume(Some("u")), &good).is_ok());
        assert!(
            check_back(&volume(Some("x")), &good)
                .unwrap_err()
                .contains("UID x does not point to claim.UID u")
        );
        assert!(check_back(&volume(None), &good).is_err());
    }

    #[test]
    fn devices_are_no_directories() {
        let pod = |list: &str| -> Pod {
            from(
                json!({"spec": {"containers": [{"name": "c", (list): [{"name": "v", "mountPath": "/v", "devicePath": "/d"}]}]}}),
            )
        };
        let wrong = check_mode(&pod("volumeMounts"), "v", true).unwrap_err();
        assert_eq!(wrong, "volume v has volumeMode Block, but is specified in volumeMounts");
        assert!(check_mode(&pod("volumeDevices"), "v", false).is_err());
        assert!(check_mode(&pod("volumeDevices"), "v", true).is_ok());
        assert!(check_mode(&pod("volumeMounts"), "v", false).is_ok());
    }

    #[test]
    fn volumes_of_the_cluster_become_what_is_mounted() {
        let of = |annotations: Value, spec: Value| {
            of_volume(&from(json!({"metadata": {"name": "v", "annotations": annotations}, "spec": spec})))
        };
        let host = json!({"hostPath": {"path": "/d", "type": "DirectoryOrCreate"}});
        let kind = "DirectoryOrCreate".to_owned();
        assert_eq!(of(json!({}), host.clone()), Ok(Source::HostPath { path: "/d".into(), kind }));
        let by = json!({"pv.kubernetes.io/provisioned-by": "x"});
        assert_eq!(of(by, host), Ok(Source::Local { path: "/d".into(), make: true }));
        let nfs =
            json!({"nfs": {"server": "s", "path": "/p", "readOnly": true}, "mountOptions": ["nfsvers=4"]});
        let options = vec!["ro".to_owned(), "nfsvers=4".to_owned()];
        assert_eq!(of(json!({}), nfs), Ok(Source::Nfs { source: "s:/p".into(), options }));
        let block = json!({"local": {"path": "/dev/x"}, "volumeMode": "Block"});
        assert_eq!(of(json!({}), block), Ok(Source::Block("/dev/x".into())));
        let csi = json!({"csi": {"driver": "d.example", "volumeHandle": "h"}});
        assert!(of(json!({}), csi).unwrap_err().contains("driver name d.example not found"));
    }
}
