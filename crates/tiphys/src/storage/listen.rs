//! `--etcd-listen`: the store of this master answers etcd's clients.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tiphys_apiserver::pki::{Leaf, Pki};
use tiphys_etcd_api::{Config, Identity};
use tiphys_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// Serves from now on until `stop`. The certificate is the API server's own.
pub async fn listen(
    address: SocketAddr,
    store: Arc<dyn Store>,
    settings: &Settings,
    pki: &Pki,
    stop: CancellationToken,
) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on --etcd-listen {address}; choose another port, or end its user")
    })?;
    let leaf = pki.leaf(Leaf::ApiServer);
    let config = Config {
        store,
        listener,
        identity: Identity {
            cert_pem: leaf.cert_pem.clone(),
            key_pem: leaf.key_pem.clone(),
            ca_pem: pki.ca_pem().to_owned(),
        },
        name: settings.node_name.clone(),
        scratch: settings.data_dir.clone(),
    };
    tokio::spawn(async move {
        if let Err(error) = tiphys_etcd_api::serve(config, stop).await {
            tracing::error!(%error, "etcd's clients are not answered");
        }
    });
    Ok(())
}
