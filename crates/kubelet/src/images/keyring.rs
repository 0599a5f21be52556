//! Credentials for registries, from Secrets in Docker's forms. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tiphys_runtime::Auth;

/// Credentials by the registry (and path) they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyring(Vec<(String, Auth)>);

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "lowercase")]
#[derive(Default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

impl Keyring {
    /// Takes in a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`.
    pub(super) fn add(&mut self, data: &BTreeMap<String, Vec<u8>>) {
        let modern = data.get(".dockerconfigjson").and_then(|json| serde_json::from_slice(json).ok());
        let old = || data.get(".dockercfg").and_then(|json| serde_json::from_slice(json).ok());
        let auths = modern.map(|config: DockerConfig| config.auths).or_else(old).unwrap_or_default();
        self.0.extend(auths.into_iter().map(|(server, entry)| (normal(&server), auth(&server, entry))));
    }

    /// The credentials that fit an image, the most specific first.
    pub(super) fn credentials(&self, image: &str) -> Vec<Auth> {
        let image = full_name(image);
        let mut fitting: Vec<&(String, Auth)> =
            self.0.iter().filter(|(server, _)| fits(server, &image)).collect();
        fitting.sort_by_key(|(server, _)| std::cmp::Reverse(server.len()));
        fitting.into_iter().map(|(_, auth)| auth.clone()).collect()
    }
}

fn auth(server: &str, entry: Entry) -> Auth {
    let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = match pair {
        Some((user, password)) if entry.username.is_empty() => (user.to_owned(), password.to_owned()),
        _ => (entry.username, entry.password),
    };
    Auth {
        username,
        password,
        server: server.to_owned(),
        identity_token: entry.identitytoken,
        registry_token: String::new(),
    }
}

/// `https://index.docker.io/v1/` names Docker's registry; elsewhere scheme and API version do not count.
fn normal(server: &str) -> String {
    let server = server.trim_start_matches("https://").trim_start_matches("http://");
    let server = server.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    match server {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

/// The image's name with its registry.
fn full_name(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.into(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

/// Whether credentials for `server` (a host that may have `*` parts, and a path) are for this image.
fn fits(server: &str, image: &str) -> bool {
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((image, ""));
    let (parts, image_parts) = (host.split('.'), image_host.split('.'));
    let same_count = parts.clone().count() == image_parts.clone().count();
    same_count
        && parts.zip(image_parts).all(|(part, other)| part == "*" || part == other)
        && image_path.starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_credentials_come_first() {
        let json = br#"{"auths": {"reg.example": {"auth": "dTpw"}, "https://reg.example/team": {"username": "t",
            "password": "q"}, "*.wild.example": {"auth": "dzp3"}, "https://index.docker.io/v1/": {"auth": "ZDpk"}}}"#;
        let mut keyring = Keyring::default();
        keyring.add(&[(".dockerconfigjson".to_owned(), json.to_vec())].into());
        let users = |image: &str| -> Vec<String> {
            keyring.credentials(image).into_iter().map(|auth| auth.username).collect()
        };
        assert_eq!(users("reg.example/team/app:1"), ["t", "u"]);
        assert_eq!(users("reg.example/other"), ["u"]);
        assert_eq!(users("a.wild.example/x"), ["w"]);
        assert_eq!(users("nginx"), ["d"]);
        assert!(users("other.example/x").is_empty());
    }
}
