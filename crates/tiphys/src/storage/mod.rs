//! Where the state is kept: the embedded store of a data directory, or an etcd cluster, as flags or a word say.

mod copy;
mod listen;
mod migrate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tiphys_store::embedded::Options;
use tiphys_store::etcd::{self, Login, Tls};
use tiphys_store::{Embedded, Etcd, Store};

use crate::cli::EtcdFlags;

pub use copy::{Target, fill};
pub use listen::listen;
pub use migrate::run;

/// How long etcd's past is kept, as kube-apiserver does by default.
const ETCD_RETENTION: Duration = Duration::from_secs(5 * 60);

/// Directory of the embedded store.
pub fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// Opens the store of a running master.
pub async fn open(data_dir: &Path, etcd: &EtcdFlags) -> Result<Arc<dyn Store>> {
    if etcd.etcd_servers.is_empty() {
        let dir = dir(data_dir);
        let store = tokio::task::spawn_blocking(move || Embedded::open(&dir, &Options::default())).await??;
        return Ok(Arc::new(store));
    }
    let options = etcd::Options { retention: Some(ETCD_RETENTION), ..etcd_options(etcd)? };
    Ok(Arc::new(Etcd::connect(&options).await?))
}

/// What the flags say of an etcd cluster. Its past is left alone.
pub fn etcd_options(flags: &EtcdFlags) -> Result<etcd::Options> {
    let login = match (&flags.etcd_username, &flags.etcd_password_file) {
        (Some(name), Some(file)) => {
            let password = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read --etcd-password-file {}", file.display()))?;
            Some(Login { name: name.clone(), password: password.trim_end_matches('\n').to_owned() })
        }
        _ => None,
    };
    Ok(etcd::Options {
        servers: flags.etcd_servers.clone(),
        tls: Tls {
            ca: flags.etcd_cafile.clone(),
            cert: flags.etcd_certfile.clone(),
            key: flags.etcd_keyfile.clone(),
        },
        login,
        retention: None,
    })
}
