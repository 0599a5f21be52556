//! Sources of volumes: of a pod's and of the cluster's, which have most of them in common.

use crate::{Text, Value};

use super::{At, Fields, Seen, flag, items, list, number, object, text};
use super::{as_value, judge};
use crate::field::{Error, Errors};
use crate::validate::{forms, names};

pub(super) const PORTAL_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 \
    characters if iscsi.initiatorName is specified.";

/// One source, not none and not several.
pub(super) fn exactly_one<'k>(at: &At<'_>, mut sources: impl Iterator<Item = &'k Text>, errors: &mut Errors) {
    if sources.next().is_none() {
        errors.push(Error::required(&at.path(), "must specify a volume type"));
    }
    for source in sources {
        errors.push(Error::forbidden(&at.path().child(source), "may not specify more than 1 volume type"));
    }
}

/// Modes of files are nine bits.
pub(super) fn file_mode(at: &At<'_>, fields: &Fields, name: &str, errors: &mut Errors) {
    if let Some(mode) = number(fields, name).filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(Error::invalid(&at.path().child(name), mode, why));
    }
}

/// The mode of files that say nothing of their own.
pub(super) fn default_mode(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    file_mode(at, source, "defaultMode", errors);
}

/// A key becomes a file.
pub(super) fn key_to_path(at: &At<'_>, item: &Fields, errors: &mut Errors) {
    let path = text(item, "path");
    judge(forms::local_path(path), path, errors, || at.path().child("path"));
    file_mode(at, item, "mode", errors);
}

/// A path on the host does not climb.
pub(super) fn host_path(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let path = text(source, "path");
    judge(forms::no_backsteps(path), path, errors, || at.path().child("path"));
}

/// A checkout goes into the volume.
pub(super) fn git_repo(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let directory = text(source, "directory");
    judge(forms::descending(directory), directory, errors, || at.path().child("directory"));
}

/// An export is named by its full path.
pub(super) fn nfs(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let path = text(source, "path");
    if !path.starts_with('/') {
        errors.push(Error::invalid(&at.path().child("path"), path, "must be an absolute path"));
    }
}

/// A disk has a qualified name and a unit, and secrets where they are asked for.
pub(super) fn iscsi(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    qualified(at, "iqn", text(source, "iqn"), errors);
    if let Some(initiator) = source.get("initiatorName").and_then(Value::as_str) {
        qualified(at, "initiatorname", initiator, errors);
    }
    let lun = number(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&lun) {
        errors.push(Error::invalid(&at.path().child("lun"), lun, "must be between 0 and 255, inclusive"));
    }
    let secret = source.contains_key("secretRef");
    if (flag(source, "chapAuthDiscovery") || flag(source, "chapAuthSession")) && !secret {
        errors.push(Error::required(&at.path().child("secretRef"), ""));
    }
}

fn qualified(at: &At<'_>, field: &str, name: &str, errors: &mut Errors) {
    let form = ["iqn", "eui", "naa"].into_iter().find(|form| name.starts_with(form));
    let why = match form {
        _ if name.is_empty() => return,
        None => "must be valid format starting with iqn, eui, or naa",
        Some("iqn") if !is_iqn(name) => "must be valid format",
        Some("eui") if !is_numbered(name, 16) => "must be valid format",
        Some("naa") if !is_numbered(name, 32) => "must be valid format",
        Some(_) => return,
    };
    errors.push(Error::invalid(&at.path().child(field), name, why));
}

/// `iqn.2001-04.com.example:disk`
fn is_iqn(name: &str) -> bool {
    let rest = name.strip_prefix("iqn.").unwrap_or_default();
    let Some((date, rest)) = rest.split_at_checked(8) else { return false };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let dated = matches!(date.as_bytes(), [y @ .., b'-', _, _, b'.'] if y.iter().all(u8::is_ascii_digit))
        && date.get(5..7).is_some_and(digits);
    let Some((authority, own)) = rest.split_once(':') else { return false };
    dated
        && !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !own.is_empty()
        && !own.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace())
}

fn is_numbered(name: &str, digits: usize) -> bool {
    name.len() == digits + 4 && name.bytes().skip(4).all(|b| b.is_ascii_alphanumeric())
}

/// A fibre channel disk is found by its targets or by its identifiers.
pub(super) fn fibre_channel(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let (targets, ids) = (list(source, "targetWWNs"), list(source, "wwids"));
    let path = || at.path().child("targetWWNs");
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => {
            errors.push(Error::required(&path(), "must specify either targetWWNs or wwids, but not both"));
        }
        (false, false) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(Error::invalid(&path(), targets.to_vec(), why));
        }
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    match number(source, "lun") {
        None => {
            let why = "lun is required if targetWWNs is specified";
            errors.push(Error::required(&at.path().child("lun"), why));
        }
        Some(lun) if !(0..=255).contains(&lun) => {
            let why = "must be between 0 and 255, inclusive";
            errors.push(Error::invalid(&at.path().child("lun"), lun, why));
        }
        Some(_) => {}
    }
}

/// A disk's partition.
pub(super) fn partition(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    if let Some(number) = number(source, "partition").filter(|number| !(0..=255).contains(number)) {
        let why = "must be between 1 and 255, inclusive";
        errors.push(Error::invalid(&at.path().child("partition"), number, why));
    }
}

/// A driver's options are not Kubernetes' own.
pub(super) fn flex(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    for key in object(source, "options").into_iter().flat_map(|options| options.keys()) {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain).to_lowercase();
        let own = |name: &str| domain == name || domain.ends_with(&format!(".{name}"));
        if own("kubernetes.io") || own("k8s.io") {
            let path = at.path().child("options").key(key);
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&path, key.as_str(), why));
        }
    }
}

/// The name of a CSI driver.
pub(super) fn csi_driver(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let driver = text(source, "driver");
    if driver.len() > 63 {
        errors.push(Error::too_long(&at.path().child("driver"), 63));
    }
    if !driver.is_empty() {
        judge(names::any_case_subdomain(driver), driver, errors, || at.path().child("driver"));
    }
}

/// A driver's volume in a pod.
pub(super) fn csi(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    csi_driver(at, source, errors);
    let Some(secret) = object(source, "nodePublishSecretRef") else { return };
    match text(secret, "name") {
        "" => errors.push(Error::required(&at.path().child("nodePublishSecretRef").child("name"), "")),
        name => judge(names::dns1123_subdomain(name), name, errors, || at.path().child("name")),
    }
}

/// A data set has a name or an identifier.
pub(super) fn flocker(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    let (name, id) = (text(source, "datasetName"), text(source, "datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => {
            errors.push(Error::required(&at.path(), "one of datasetName and datasetUUID is required"));
        }
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(Error::invalid(&at.path(), "resource", why));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(Error::invalid(&at.path().child("datasetName"), name, "must not contain '/'"));
    }
}

/// A managed disk's address differs from a blob's.
pub(super) fn azure_disk(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (kind, address) = (text(source, "kind"), text(source, "diskURI"));
    let wanted = match kind {
        "Managed" if !address.starts_with("/subscriptions/") => MANAGED,
        "Shared" | "Dedicated" if !address.starts_with("https://") => BLOB,
        _ => return,
    };
    errors.push(Error::not_supported(&at.path().child("diskURI"), address, &[wanted]));
}

/// Servers are hosts with ports.
pub(super) fn quobyte(at: &At<'_>, source: &Fields, errors: &mut Errors) {
    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if text(source, "tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&at.path().child("tenant"), why));
    } else if !registry.is_empty() && registry.split(',').any(|pair| !pair.contains(':')) {
        errors.push(Error::invalid(&at.path().child("registry"), registry, WHY));
    }
}

/// What is shown of the pod: a field, perhaps one key of its labels or annotations.
pub(super) fn pod_field(at: &At<'_>, field: &Fields, shown: &[&str], errors: &mut Errors) {
    let path = text(field, "fieldPath");
    if path.is_empty() || text(field, "apiVersion").is_empty() {
        return;
    }
    let subscript = path.strip_suffix("']").and_then(|path| path.split_once("['"));
    let known = |path: &str| {
        let own = ["metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName"];
        shown.contains(&path) || own.contains(&path) || ENV_FIELDS.contains(&path)
    };
    if text(field, "apiVersion") != "v1" || !known(subscript.map_or(path, |(path, _)| path)) {
        let why = if text(field, "apiVersion") == "v1" {
            format!("error converting fieldPath: field label not supported: {path}")
        } else {
            format!("error converting fieldPath: unsupported pod version: {}", text(field, "apiVersion"))
        };
        errors.push(Error::invalid(&at.path().child("fieldPath"), path, &why));
        return;
    }
    match subscript {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            judge(names::qualified_name(&key), &key, errors, || at.path());
        }
        Some(("metadata.labels", key)) => judge(names::qualified_name(key), key, errors, || at.path()),
        Some((path, _)) => errors.push(Error::invalid(&at.path(), path, "does not support subscript")),
        None if !shown.contains(&path) => {
            errors.push(Error::not_supported(&at.path().child("fieldPath"), path, shown));
        }
        None => {}
    }
}

/// Fields of a pod that a variable can show. They stand for themselves whatever shows them.
pub(super) const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Amounts of a container that can be shown, without those of large pages.
const AMOUNTS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What is shown of a container's resources. In a volume the container is named.
pub(super) fn container_amount(at: &At<'_>, field: &Fields, in_volume: bool, errors: &mut Errors) {
    let resource = text(field, "resource");
    let pages = ["limits.hugepages-", "requests.hugepages-"].iter().any(|part| resource.starts_with(part));
    if in_volume && text(field, "containerName").is_empty() {
        errors.push(Error::required(&at.path().child("containerName"), ""));
    } else if !resource.is_empty() && !AMOUNTS.contains(&resource) && !pages {
        errors.push(Error::not_supported(&at.path().child("resource"), resource, &AMOUNTS));
    }
    let divisor = text(field, "divisor");
    if matches!(divisor, "" | "0") {
        return;
    }
    let (known, kind, shown): (&[&str], _, _) = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => (&["1m", "1"], "cpu", "1m and 1"),
        Some("memory") => (&SIZES, "memory", SIZES_SHOWN),
        Some("ephemeral-storage") => (&SIZES, "local ephemeral storage", SIZES_SHOWN),
        _ if pages => (&SIZES, "hugepages", SIZES_SHOWN),
        _ => return,
    };
    if !known.contains(&divisor) {
        let why = format!("only divisor's values {shown} are supported with the {kind} resource");
        errors.push(Error::invalid(&at.path().child("divisor"), resource, &why));
    }
}

const SIZES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
const SIZES_SHOWN: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

/// Several sources in one volume: each of one kind, and no two files at one path.
pub(super) fn projected(at: &At<'_>, volume: &Fields, errors: &mut Errors) {
    default_mode(at, volume, errors);
    let mut paths = Seen::new();
    for (index, source) in items(volume, "sources") {
        if source.len() > 1 {
            let why = "may not specify more than 1 volume type per source";
            errors.push(Error::forbidden(&at.path().child("sources").index(index), why));
        }
        for (kind, source) in source {
            let Some(source) = source.as_object() else { continue };
            let place = at.child("sources");
            let place = place.index(index);
            files(at, kind, source, &mut paths, errors);
            match kind.as_str() {
                "serviceAccountToken" => token(at, &place.child(kind), source, errors),
                "clusterTrustBundle" => trust_bundle(&place.child(kind), source, errors),
                "secret" | "configMap" if text(source, "name").is_empty() => {
                    errors.push(Error::required(&place.child(kind).path().child("name"), ""));
                }
                _ => {}
            }
        }
    }
}

/// Notes the paths of one source.
fn files<'s>(at: &At<'_>, kind: &str, source: &'s Fields, paths: &mut Seen<&'s str>, errors: &mut Errors) {
    let own = matches!(kind, "clusterTrustBundle").then(|| text(source, "path"));
    let inner = items(source, "items").map(|(_, item)| text(item, "path"));
    for path in own.into_iter().chain(inner).filter(|path| !path.is_empty()) {
        if !paths.add(path) {
            let shown = match kind {
                "secret" | "configMap" => text(source, "name"),
                _ => path,
            };
            errors.push(Error::invalid(&at.path(), shown, "conflicting duplicate paths"));
        }
    }
}

fn token(volume: &At<'_>, at: &At<'_>, token: &Fields, errors: &mut Errors) {
    let seconds = number(token, "expirationSeconds").unwrap_or(0);
    let why = match seconds {
        ..600 => "may not specify a duration less than 10 minutes",
        0x1_0000_0001.. => "may not specify a duration larger than 2^32 seconds",
        _ => "",
    };
    if !why.is_empty() {
        errors.push(Error::invalid(&at.path().child("expirationSeconds"), seconds, why));
    }
    match text(token, "path") {
        "" => errors.push(Error::required(&volume.path().child("path"), "")),
        path => judge(forms::local_path(path), path, errors, || volume.path().child("path")),
    }
}

fn trust_bundle(at: &At<'_>, bundle: &Fields, errors: &mut Errors) {
    let given = |name: &str| bundle.get(name).and_then(Value::as_str);
    let path = text(bundle, "path");
    judge(forms::local_path(path), path, errors, || at.path().child("path"));
    match (given("name"), given("signerName")) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.push(Error::invalid(&at.path(), as_value(bundle), why));
        }
        (None, None) => {
            errors.push(Error::required(&at.path(), "either name or signerName must be specified"));
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.push(Error::required(&at.path().child("name"), "must be a valid object name"));
            }
            if let Some(selector) = bundle.get("labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                errors.push(Error::invalid(&at.path().child("labelSelector"), selector.clone(), why));
            }
        }
        (None, Some("")) => {
            errors.push(Error::required(&at.path().child("signerName"), "must be a valid signer name"));
        }
        (None, Some(_)) => {}
    }
}
