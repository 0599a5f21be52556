//! The context `tiphys` in the user's own kubeconfig, as kind and minikube add theirs: merged in at `up`, taken out at
//! `reset`, everything else left as it is.
//!
//! What cannot be read as a kubeconfig is never written to, and a start says so before it begins.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::settings::Settings;

/// Name of cluster, user and context.
const NAME: &str = "tiphys";
/// The lists in a kubeconfig that hold named entries.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

/// What to do about a file of the user's, and about one in the place of ours.
const MEND: &str = "mend or move it, or give --no-merge";
const MOVE: &str = "move it, or give another file with --kubeconfig";

/// Fails if a file that a start writes is there already and is not what it should be.
pub fn check(settings: &Settings) -> Result<()> {
    if let Some(path) = settings.merged_into.as_ref().filter(|path| path.exists()) {
        read(path, MEND)?;
    }
    let path = &settings.kubeconfig;
    if !path.exists() {
        return Ok(());
    }
    let config = read(path, MOVE)?;
    let foreign = names(&config, "clusters").find(|name| *name != NAME);
    match foreign {
        Some(name) => bail!("{} holds another cluster, {name:?}; {MOVE}", path.display()),
        None => Ok(()),
    }
}

/// Merges the admin kubeconfig's entries into the user's file and makes the context the current one.
pub fn merge(settings: &Settings) -> Result<()> {
    let Some(path) = &settings.merged_into else { return Ok(()) };
    let admin = read(&settings.kubeconfig, MOVE)?;
    let mut config = if path.exists() { read(path, MEND)? } else { empty() };
    put(&mut config, &admin);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    write(path, &config)
}

/// Takes the entries out again, and the admin kubeconfig away.
pub fn remove(settings: &Settings) -> Result<()> {
    if let Some(path) = settings.merged_into.as_ref().filter(|path| path.exists()) {
        let mut config = read(path, MEND)?;
        // Another cluster of ours may have taken the name since.
        if server(&config) == Some(settings.server_url()) {
            take(&mut config);
            write(path, &config)?;
        }
    }
    if settings.kubeconfig.as_os_str().is_empty() {
        return Ok(());
    }
    match std::fs::remove_file(&settings.kubeconfig) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", settings.kubeconfig.display()))
        }
        _ => {
            // The directory is ours only if nothing else is in it.
            let _ = settings.kubeconfig.parent().map(std::fs::remove_dir);
            Ok(())
        }
    }
}

fn empty() -> Map<String, Value> {
    let base = json!({ "apiVersion": "v1", "kind": "Config", "preferences": {} });
    base.as_object().cloned().unwrap_or_default()
}

/// Puts every named entry of `from` into `config` under our name, replacing an older one.
fn put(config: &mut Map<String, Value>, from: &Map<String, Value>) {
    for list in LISTS {
        let Some(mut entry) = from.get(list).and_then(|l| l.get(0)).cloned() else { continue };
        entry["name"] = NAME.into();
        if list == "contexts" {
            entry["context"]["cluster"] = NAME.into();
            entry["context"]["user"] = NAME.into();
        }
        let entries = entries(config, list);
        entries.retain(|e| e["name"] != NAME);
        entries.push(entry);
    }
    config.insert("current-context".into(), NAME.into());
}

fn take(config: &mut Map<String, Value>) {
    for list in LISTS {
        entries(config, list).retain(|e| e["name"] != NAME);
    }
    if config.get("current-context").is_some_and(|c| c == NAME) {
        config.insert("current-context".into(), "".into());
    }
}

/// Names in a list.
fn names<'a>(config: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = &'a str> {
    let entries = config.get(list).and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| entry["name"].as_str())
}

/// A list of the kubeconfig, made when missing or null; [`read`] lets nothing else through.
fn entries<'a>(config: &'a mut Map<String, Value>, list: &str) -> &'a mut Vec<Value> {
    let value = config.entry(list).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("made an array just above")
}

fn server(config: &Map<String, Value>) -> Option<String> {
    let ours = config.get("clusters")?.as_array()?.iter().find(|c| c["name"] == NAME)?;
    ours["cluster"]["server"].as_str().map(str::to_owned)
}

fn read(path: &Path, advice: &str) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let broken = || format!("{} is no kubeconfig; {advice}", path.display());
    let value: Option<Value> = serde_saphyr::from_str(&text).with_context(broken)?;
    let map = match value {
        Some(Value::Object(map)) => map,
        None | Some(Value::Null) => empty(),
        Some(_) => bail!(broken()),
    };
    let list = |name: &&str| map.get(*name).is_none_or(|list| list.is_array() || list.is_null());
    match LISTS.iter().find(|name| !list(name)) {
        Some(name) => bail!("{}: `{name}` is no list", broken()),
        None => Ok(map),
    }
}

/// Replaces the file at once; one that a link leads to stays where it is, and its owner's.
fn write(path: &Path, config: &Map<String, Value>) -> Result<()> {
    let text = serde_saphyr::to_string(config).context("cannot encode the kubeconfig")?;
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if path.is_symlink() => {
            return Err(error)
                .with_context(|| format!("{} links to a file that is not there", path.display()));
        }
        Err(_) => path.to_owned(),
    };
    let before = std::fs::metadata(&path);
    let failed = || format!("cannot write {}", path.display());
    tiphys_apiserver::pki::write_private(&path, text.as_bytes()).with_context(failed)?;
    match before {
        Ok(meta) => chown(&path, Some(meta.uid()), Some(meta.gid())).with_context(failed),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Map<String, Value> {
        serde_saphyr::from_str(text).unwrap()
    }

    const ADMIN: &str = "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443'}}]\n\
                         users: [{name: u, user: {}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n";

    #[test]
    fn others_entries_stay() {
        let before =
            config("current-context: work\nclusters: [{name: work, cluster: {server: s}}]\nusers: null\n");
        let mut merged = before.clone();
        put(&mut merged, &config(ADMIN));
        put(&mut merged, &config(ADMIN));
        assert_eq!(merged["current-context"], NAME);
        assert_eq!(merged["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(merged["contexts"][0]["context"]["cluster"], NAME);
        assert_eq!(server(&merged).as_deref(), Some("https://127.0.0.1:6443"));
        take(&mut merged);
        assert_eq!(merged["clusters"], before["clusters"]);
    }

    #[test]
    fn what_is_no_kubeconfig_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for (text, expected) in [
            ("clusters: [", "is no kubeconfig"),
            ("- a list", "is no kubeconfig"),
            ("clusters: {a: b}", "`clusters` is no list"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", read(&path, MEND).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        for text in ["", "users: null"] {
            std::fs::write(&path, text).unwrap();
            read(&path, MEND).unwrap();
        }
    }

    #[test]
    fn a_linked_file_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("link"), dir.path().join("file"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, &config(ADMIN)).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(names(&read(&file, MEND).unwrap(), "users").collect::<Vec<_>>(), ["u"]);
    }
}
