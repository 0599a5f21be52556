//! Writes kubeconfig files with the certificates inside, so that one file is all a client needs.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Error, Leaf, Pair, Pki, files};

/// What one file says.
#[derive(Clone, Debug)]
pub struct Kubeconfig<'a> {
    /// Name of cluster and context, as `tiphys`.
    pub cluster: &'a str,
    /// Name of the user entry, as `admin`.
    pub user: &'a str,
    /// URL of the API server.
    pub server: &'a str,
    /// Certificate of the CA, PEM.
    pub ca_pem: &'a str,
    /// The client's certificate and key.
    pub pair: &'a Pair,
}

impl Kubeconfig<'_> {
    /// The file's text (YAML).
    pub fn render(&self) -> String {
        let quoted = |text: &str| tiphys_api::Value::from(text).to_string();
        let (cluster, user, server) = (quoted(self.cluster), quoted(self.user), quoted(self.server));
        let [ca, cert, key] =
            [self.ca_pem, &self.pair.cert_pem, &self.pair.key_pem].map(|pem| STANDARD.encode(pem));
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {user}
current-context: {cluster}
"
        )
    }
}

/// The components whose kubeconfigs stand beside the certificates, and the users in them.
const COMPONENTS: [(Leaf, &str, &str); 5] = [
    (Leaf::Admin, "admin.kubeconfig", "admin"),
    (Leaf::Scheduler, "scheduler.kubeconfig", "system:kube-scheduler"),
    (Leaf::ControllerManager, "controller-manager.kubeconfig", "system:kube-controller-manager"),
    (Leaf::Proxy, "kube-proxy.kubeconfig", "system:kube-proxy"),
    (Leaf::KubeletClient, "kubelet.kubeconfig", "system:node"),
];

/// Writes a kubeconfig per component into `dir` (mode 0600), those that differ from what is there.
pub fn write_all(dir: &Path, pki: &Pki, cluster: &str, server: &str) -> Result<(), Error> {
    files::make_private_dir(dir)?;
    for (leaf, name, user) in COMPONENTS {
        let config = Kubeconfig { cluster, user, server, ca_pem: pki.ca_pem(), pair: pki.leaf(leaf) };
        write_if_changed(&dir.join(name), &config.render())?;
    }
    Ok(())
}

/// Writes the administrator's kubeconfig to `path` (mode 0600), making its directory.
pub fn write_admin(path: &Path, pki: &Pki, cluster: &str, server: &str) -> Result<(), Error> {
    if let Some(dir) = path.parent() {
        files::make_private_dir(dir)?;
    }
    let config =
        Kubeconfig { cluster, user: "admin", server, ca_pem: pki.ca_pem(), pair: pki.leaf(Leaf::Admin) };
    write_if_changed(path, &config.render())
}

fn write_if_changed(path: &Path, text: &str) -> Result<(), Error> {
    match files::read(path)? {
        Some(present) if present == text => Ok(()),
        _ => files::write(path, text.as_bytes(), files::Lasting::Replaceable),
    }
}
