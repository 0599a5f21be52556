//! Manifests of static pods: files of a directory, each with one pod.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use tiphys_api::{Value, decode, validate};
use tiphys_client::typed::Kind;

use crate::pod;

/// Pods by the names of the files that they are from.
pub(super) type Manifests = BTreeMap<String, Pod>;

/// What is in the directory: by file, its pod, or why it has none.
pub(super) type Found = BTreeMap<String, Result<Pod, String>>;

/// Reads all files of a directory but the hidden ones. A directory that does not exist is an empty one.
pub(super) async fn read(dir: &Path, node: &str) -> io::Result<Found> {
    let mut found = Found::new();
    let mut entries = match tokio::fs::read_dir(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        // Through links, as a directory of them is a common way to have manifests.
        if name.starts_with('.') || tokio::fs::metadata(&path).await.is_ok_and(|meta| !meta.is_file()) {
            continue;
        }
        let pod = match tokio::fs::read(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error.to_string()),
            Ok(bytes) => parse(&bytes, &path, node)
                .map_err(|why| format!("couldn't parse as pod({why}), please check config file")),
        };
        found.insert(name, pod);
    }
    Ok(found)
}

/// The pods to run, where these ran before, and what is wrong with the other files. One that cannot be used keeps its pod.
pub(super) fn settle(known: &Manifests, found: Found) -> (Manifests, BTreeMap<String, String>) {
    let (mut now, mut complaints) = (Manifests::new(), BTreeMap::new());
    for (file, pod) in found {
        match pod {
            Ok(pod) => {
                now.insert(file, pod);
            }
            Err(why) => {
                if let Some(pod) = known.get(&file) {
                    now.insert(file.clone(), pod.clone());
                }
                complaints.insert(file, why);
            }
        }
    }
    (now, complaints)
}

/// Reads a manifest. Name and uid follow from the file and the node, so that a restart finds the same pod.
fn parse(bytes: &[u8], path: &Path, node: &str) -> Result<Pod, String> {
    let mut pod: Pod = checked(bytes)?.to().map_err(|error| error.to_string())?;
    let uid = hash(&[bytes, path.to_string_lossy().as_bytes(), node.as_bytes()]);
    pod.metadata.name = Some(format!("{}-{}", pod::name(&pod), node.to_lowercase()));
    pod.metadata.uid = Some(uid.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(pod::SOURCE.into(), "file".into());
    annotations.insert(pod::HASH.into(), uid);
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_owned());
    }
    Ok(pod)
}

/// The object of a file, with defaults: what the API would make of it.
fn checked(bytes: &[u8]) -> Result<Value, String> {
    let mut value = decode::yaml(bytes).map_err(|error| error.to_string())?.value;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    if (kind, version) != ("Pod", "v1") {
        return Err(format!("invalid pod: it is a {kind:?} of {version:?}"));
    }
    if value.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err("invalid pod: metadata.name: Required value".into());
    }
    let resource = tiphys_api::schema::builtin().by_kind(&Pod::GVK).ok_or("pods are not known")?;
    decode::structure(resource, &mut value).map_err(|error| error.to_string())?;
    if value["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
        value["metadata"]["namespace"] = "default".into();
    }
    if value.get("spec").is_none() {
        value["spec"] = tiphys_api::json!({});
    }
    tiphys_api::defaults::apply(resource, &mut value);
    let mut errors = validate::object_meta(resource, &value);
    errors.extend(validate::required(resource, &value));
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if told.is_empty() { Ok(value) } else { Err(format!("invalid pod: {}", told.join(", "))) }
}

/// 128 bits of FNV-1a in hexadecimal: an identity, no secret.
fn hash(parts: &[&[u8]]) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in parts.iter().flat_map(|part| part.iter().chain(&[0])) {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &[u8] =
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = parse(WEB, Path::new("/m/web.yaml"), "N1").unwrap();
        assert_eq!((pod::name(&pod), pod::namespace(&pod)), ("web-n1", "default"));
        assert!(pod::is_static(&pod));
        let again = parse(WEB, Path::new("/m/web.yaml"), "N1").unwrap();
        assert_eq!(pod::uid(&pod), pod::uid(&again));
        assert_ne!(pod::uid(&pod), pod::uid(&parse(WEB, Path::new("/m/b.yaml"), "N1").unwrap()));
    }

    #[test]
    fn what_is_no_pod_says_so() {
        let error = |text: &str| parse(text.as_bytes(), Path::new("/x"), "n").unwrap_err();
        assert!(!error("kind: [").is_empty() && !error("").is_empty());
        assert_eq!(error("{}"), "invalid pod: it is a \"\" of \"\"");
        assert_eq!(
            error("apiVersion: apps/v1\nkind: Deployment\n"),
            "invalid pod: it is a \"Deployment\" of \"apps/v1\""
        );
        let no_spec = error("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n");
        assert!(no_spec.contains("spec.containers: Required value"), "{no_spec}");
    }

    #[tokio::test]
    async fn a_file_that_is_half_written_keeps_its_pod() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yaml");
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join(".web.yaml.swp"), "x").unwrap();
        std::fs::write(&file, WEB).unwrap();
        let look = async |known: &Manifests| settle(known, read(dir.path(), "n").await.unwrap());
        let (first, complaints) = look(&Manifests::new()).await;
        assert_eq!((first.len(), complaints.len()), (1, 0));
        for half in [&b""[..], &WEB[..40]] {
            std::fs::write(&file, half).unwrap();
            let (now, complaints) = look(&first).await;
            assert_eq!((&now, complaints.keys().next().map(String::as_str)), (&first, Some("web.yaml")));
        }
        std::fs::remove_file(&file).unwrap();
        assert!(look(&first).await.0.is_empty());
        assert!(read(&dir.path().join("none"), "n").await.unwrap().is_empty());
    }
}
