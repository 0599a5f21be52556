//! kubeconfig files: where clusters are and who we are there, by the rules of kubectl.
//!
//! - `KUBECONFIG` may list several files: the first that sets a name or a value wins, missing files are passed over.
//!   A file named explicitly is the only one, and must exist. Without either, `~/.kube/config`.
//! - Paths inside a file are relative to that file. Inline data wins over paths.
//! - [`Kubeconfig`] keeps the fields it does not know, so that a file can be written back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::remote::{Config, ConfigError, Identity};

/// A kubeconfig, of one file or merged of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kubeconfig {
    /// Always `v1`.
    #[serde(rename = "apiVersion", default)]
    pub api_version: String,
    /// Always `Config`.
    #[serde(default)]
    pub kind: String,
    /// The servers.
    #[serde(default, deserialize_with = "lenient")]
    pub clusters: Vec<NamedCluster>,
    /// The identities.
    #[serde(default, deserialize_with = "lenient")]
    pub users: Vec<NamedUser>,
    /// Pairs of both.
    #[serde(default, deserialize_with = "lenient")]
    pub contexts: Vec<NamedContext>,
    /// The context to use.
    #[serde(rename = "current-context", default)]
    pub current_context: String,
    /// What else is in the file.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// An entry of `clusters`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedCluster {
    /// Its name.
    pub name: String,
    /// The server.
    #[serde(default)]
    pub cluster: Cluster,
}

/// An entry of `users`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedUser {
    /// Its name.
    pub name: String,
    /// The identity.
    #[serde(default)]
    pub user: User,
}

/// An entry of `contexts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedContext {
    /// Its name.
    pub name: String,
    /// The pair.
    #[serde(default)]
    pub context: Context,
}

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// URL.
    pub server: String,
    /// File of the CAs, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// The CAs, PEM in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    /// Whether any certificate will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_tls_verify: Option<bool>,
    /// Name to expect in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// What else is there.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// An identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// File of the client certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// The client certificate, PEM in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    /// File of the client key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// The client key, PEM in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    /// Bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// File of the bearer token.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Name for basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password for basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What else is there, as `exec`.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A server, an identity, and the namespace to start in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the user.
    pub user: String,
    /// Namespace when none is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What else is there.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// Values that win over the file's, as from the command line.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--context`.
    pub context: Option<String>,
    /// `--cluster`.
    pub cluster: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--server`.
    pub server: Option<String>,
    /// `--token`.
    pub token: Option<String>,
    /// `--insecure-skip-tls-verify`.
    pub insecure: Option<bool>,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not a kubeconfig.
    #[error("error loading config file {:?}: {why}", path.display().to_string())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// There is no configuration at all.
    #[error("no configuration has been provided, try setting KUBECONFIG or --kubeconfig")]
    Empty,
    /// A name that nothing has.
    #[error("{kind} {name:?} does not exist")]
    Missing {
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A value that is no base64.
    #[error("{0} is not base64")]
    Base64(&'static str),
    /// A way of authentication that is not supported.
    #[error("user {user:?} authenticates by {way:?}, which is not supported yet")]
    Unsupported {
        /// Name of the user.
        user: String,
        /// `exec` or `auth-provider`.
        way: &'static str,
    },
    /// Values that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

fn lenient<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    // kubectl writes `clusters: null` for an empty list.
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Kubeconfig {
    /// The files that count: an explicit one, or those of `KUBECONFIG`, or the one in the home directory.
    pub fn paths(explicit: Option<&Path>) -> Vec<PathBuf> {
        if let Some(path) = explicit {
            return vec![path.to_owned()];
        }
        match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
            Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
            None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
        }
    }

    /// Loads and merges the files that count. A missing file is an error only when it was named explicitly.
    pub fn load(explicit: Option<&Path>) -> Result<Self, Error> {
        let mut merged = Self::default();
        for path in Self::paths(explicit) {
            match std::fs::read_to_string(&path) {
                Ok(text) => merged.merge(Self::parse(&text, &path)?),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && explicit.is_none() => {}
                Err(source) => return Err(ConfigError::Read { path, source }.into()),
            }
        }
        Ok(merged)
    }

    /// Reads one file's text; relative paths in it become absolute.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut config: Self = serde_saphyr::from_str(text)
            .map_err(|e| Error::Parse { path: path.to_owned(), why: e.to_string() })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let resolve = |file: &mut Option<PathBuf>| {
            if let Some(file) =
                file.as_mut().filter(|file| file.is_relative() && !file.as_os_str().is_empty())
            {
                *file = directory.join(&*file);
            }
        };
        config.clusters.iter_mut().for_each(|c| resolve(&mut c.cluster.certificate_authority));
        for NamedUser { user, .. } in &mut config.users {
            let files = [&mut user.client_certificate, &mut user.client_key, &mut user.token_file];
            files.into_iter().for_each(resolve);
        }
        Ok(config)
    }

    /// Takes in what another file adds; what is here stays.
    pub fn merge(&mut self, other: Self) {
        fn add<T>(ours: &mut Vec<T>, theirs: Vec<T>, name: impl Fn(&T) -> &str) {
            for item in theirs {
                if !ours.iter().any(|known| name(known) == name(&item)) {
                    ours.push(item);
                }
            }
        }
        add(&mut self.clusters, other.clusters, |c| &c.name);
        add(&mut self.users, other.users, |u| &u.name);
        add(&mut self.contexts, other.contexts, |c| &c.name);
        for (ours, theirs) in [
            (&mut self.current_context, other.current_context),
            (&mut self.api_version, other.api_version),
            (&mut self.kind, other.kind),
        ] {
            if ours.is_empty() {
                *ours = theirs;
            }
        }
        for (key, value) in other.rest {
            self.rest.entry(key).or_insert(value);
        }
    }

    /// The context that counts.
    pub fn context(&self, overrides: &Overrides) -> Result<Context, Error> {
        let name = overrides.context.as_ref().unwrap_or(&self.current_context);
        let found = self.contexts.iter().find(|c| c.name == *name).map(|c| c.context.clone());
        let mut context = match found {
            Some(context) => context,
            None if name.is_empty() && overrides.server.is_some() => Context::default(),
            None if name.is_empty() && overrides.cluster.is_some() => Context::default(),
            None if name.is_empty() => return Err(Error::Empty),
            None => return Err(Error::Missing { kind: "context", name: name.clone() }),
        };
        if let Some(cluster) = &overrides.cluster {
            context.cluster.clone_from(cluster);
        }
        if let Some(user) = &overrides.user {
            context.user.clone_from(user);
        }
        Ok(context)
    }

    /// How to reach the cluster of the context that counts.
    pub fn config(&self, overrides: &Overrides) -> Result<Config, Error> {
        let context = self.context(overrides)?;
        let mut cluster = match self.clusters.iter().find(|c| c.name == context.cluster) {
            Some(found) => found.cluster.clone(),
            None if context.cluster.is_empty() && overrides.server.is_some() => Cluster::default(),
            None => return Err(Error::Missing { kind: "cluster", name: context.cluster }),
        };
        if let Some(server) = &overrides.server {
            cluster.server.clone_from(server);
        }
        let mut user = match self.users.iter().find(|u| u.name == context.user) {
            Some(found) => found.user.clone(),
            None if context.user.is_empty() => User::default(),
            None => return Err(Error::Missing { kind: "user", name: context.user }),
        };
        if overrides.token.is_some() {
            user = User { token: overrides.token.clone(), ..User::default() };
        }
        let data = (&cluster.certificate_authority_data, &cluster.certificate_authority);
        let ca = bytes(data, "certificate-authority-data")?.unwrap_or_default();
        let mut config = Config::new(&cluster.server, ca, user.identity(&context.user)?)?;
        config.insecure = overrides.insecure.or(cluster.insecure_skip_tls_verify).unwrap_or(false);
        config.server_name = cluster.tls_server_name;
        Ok(config)
    }
}

impl User {
    fn identity(&self, name: &str) -> Result<Identity, Error> {
        let chain =
            bytes((&self.client_certificate_data, &self.client_certificate), "client-certificate-data")?;
        let key = bytes((&self.client_key_data, &self.client_key), "client-key-data")?;
        if let (Some(chain), Some(key)) = (chain, key) {
            return Ok(Identity::Certificate { chain, key });
        }
        if let Some(path) = &self.token_file {
            return Ok(Identity::TokenFile(path.clone()));
        }
        if let Some(token) = &self.token {
            return Ok(Identity::Token(token.clone()));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Identity::Basic(user.clone(), password.clone()));
        }
        match ["exec", "auth-provider"].into_iter().find(|way| self.rest.contains_key(*way)) {
            Some(way) => Err(Error::Unsupported { user: name.to_owned(), way }),
            None => Ok(Identity::Anonymous),
        }
    }
}

/// Inline data, or else a file's content.
fn bytes(
    (data, path): (&Option<String>, &Option<PathBuf>),
    what: &'static str,
) -> Result<Option<Vec<u8>>, Error> {
    if let Some(data) = data.as_ref().filter(|data| !data.is_empty()) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return decoded.map(Some).map_err(|_| Error::Base64(what));
    }
    match path.as_ref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => Ok(Some(crate::remote::read(path)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "
apiVersion: v1
kind: Config
clusters:
- name: a
  cluster: {server: 'https://a:6443', certificate-authority-data: QUJD}
users:
- name: me
  user: {token: secret}
contexts:
- name: here
  context: {cluster: a, user: me, namespace: shop}
preferences: {colors: true}
";
    const SECOND: &str = "
clusters:
- name: a
  cluster: {server: 'https://other:6443'}
- name: b
  cluster: {server: 'https://b:6443', certificate-authority: pki/ca.crt}
users: null
current-context: here
";

    fn merged() -> Kubeconfig {
        let mut config = Kubeconfig::parse(FIRST, Path::new("/etc/one")).unwrap();
        config.merge(Kubeconfig::parse(SECOND, Path::new("/home/me/.kube/two")).unwrap());
        config
    }

    #[test]
    fn the_first_file_wins_and_paths_are_relative_to_their_file() {
        let config = merged();
        assert_eq!(config.current_context, "here");
        assert_eq!(config.clusters[0].cluster.server, "https://a:6443");
        let ca = config.clusters[1].cluster.certificate_authority.as_deref();
        assert_eq!(ca, Some(Path::new("/home/me/.kube/pki/ca.crt")));
        assert_eq!(config.rest["preferences"]["colors"], true);
    }

    #[test]
    fn the_current_context_is_resolved() {
        let remote = merged().config(&Overrides::default()).unwrap();
        assert_eq!(
            (remote.server.to_string().as_str(), remote.ca.as_slice()),
            ("https://a:6443/", &b"ABC"[..])
        );
        assert!(matches!(remote.identity, Identity::Token(token) if token == "secret"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let unknown = Overrides { context: Some("x".into()), ..Overrides::default() };
        let error = merged().config(&unknown).unwrap_err().to_string();
        assert_eq!(error, r#"context "x" does not exist"#);
        let error = Kubeconfig::default().config(&Overrides::default()).unwrap_err();
        assert!(matches!(error, Error::Empty));
        let error = Kubeconfig::parse("clusters: [", Path::new("/etc/k")).unwrap_err();
        assert!(error.to_string().starts_with(r#"error loading config file "/etc/k": "#));
    }
}
