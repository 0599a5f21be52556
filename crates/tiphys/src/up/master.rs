//! The master: keys, store, API server, and the components that only speak to it.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use tiphys_apiserver::auth::User;
use tiphys_apiserver::pki::{self, Pki};
use tiphys_apiserver::served::Served;
use tiphys_apiserver::{ApiServer, Config};
use tiphys_client::Client;
use tiphys_client::leader::{self, Election, Timing, unique_identity};
use tiphys_network::address::Range;
use tokio_util::sync::CancellationToken;

use super::Stop;
use super::components::Components;
use crate::cli::Cluster;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::{backup, storage};

/// A running master.
pub struct Running {
    /// The API server.
    pub api: ApiServer,
    /// Keys and certificates.
    pub pki: Pki,
    /// What runs besides the API server.
    pub components: Components,
    /// Whether other masters may work on the same state.
    is_shared: bool,
}

/// Starts keys, store and API server; serves when this returns.
pub async fn start(
    settings: &Settings,
    cluster: &Cluster,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<Running> {
    let pki = ensure_pki(settings, cluster)?;
    progress.done("keys and certificates ready");
    let store = storage::open(&settings.data_dir, &cluster.storage.etcd).await?;
    progress.done("state store open");
    backup::socket::serve(&settings.data_dir, store.clone(), stop.api.clone())?;
    if let Some(address) = cluster.storage.etcd_listen {
        storage::listen(address, store.clone(), settings, &pki, stop.api.clone()).await?;
        progress.done(&format!("etcd's clients are answered on https://{address}"));
    }
    // An own store may be shared, too: with a kube-apiserver that takes it for an etcd.
    let is_shared = !cluster.storage.etcd.etcd_servers.is_empty() || cluster.storage.etcd_listen.is_some();
    let config = Config {
        shared: is_shared,
        store,
        pki: pki.clone(),
        bind: (settings.bind_address, settings.https_port).into(),
        advertise: settings.node_ip,
        service_cidrs: vec![settings.service_cidr.parse().context("--service-cidr")?],
        cluster_domain: settings.cluster_domain.clone(),
        build: super::node::build(),
        versions: Served::parse(cluster.runtime_config.iter().map(String::as_str))
            .context("--runtime-config")?,
    };
    let api = ApiServer::start(config, stop.api.clone()).await?;
    let server = settings.server_url();
    pki::kubeconfig::write_all(&settings.data_dir.join("kubeconfig"), &pki, "tiphys", &server)?;
    pki::kubeconfig::write_admin(&settings.kubeconfig, &pki, "tiphys", &server)?;
    progress.done(&format!("API server on {server}, kubeconfig in {}", settings.kubeconfig.display()));
    Ok(Running { api, pki, components: Components::default(), is_shared })
}

fn ensure_pki(settings: &Settings, cluster: &Cluster) -> Result<Pki> {
    let first = Range::parse(&settings.service_cidr)?.at(1).context("--service-cidr is too small")?;
    let mut extra_sans = cluster.tls_san.clone();
    if !settings.bind_address.is_unspecified() {
        extra_sans.push(settings.bind_address.to_string());
    }
    let config = pki::Config {
        node_name: settings.node_name.clone(),
        node_ips: vec![settings.node_ip],
        service_ips: vec![first.into()],
        cluster_domain: settings.cluster_domain.clone(),
        extra_sans,
    };
    Ok(pki::ensure(&settings.data_dir.join("pki"), &config, jiff::Timestamp::now())?)
}

impl Running {
    /// Starts the scheduler and the controllers, as far as they are wanted.
    pub fn start_components(&mut self, settings: &Settings, runs: &dyn Fn(&str) -> bool, stop: &Stop) {
        if runs("scheduler") {
            let client = self.api.client(User::system("system:kube-scheduler", &[]), "kube-scheduler");
            let work = schedule(client.clone());
            let election = self.election(settings, "kube-scheduler");
            let leading = leader::lead(client, election, stop.components.clone(), work);
            self.components.spawn("scheduler", async move { leading.await.unwrap_or(Ok(())) });
        }
        if runs("controller-manager") {
            let client = self
                .api
                .client(User::system("system:kube-controller-manager", &[]), "kube-controller-manager");
            let config = tiphys_controllers::Config {
                root_ca: self.pki.ca_pem().to_owned(),
                identities: Some(self.identities()),
                cluster_cidrs: vec![settings.cluster_cidr.clone()],
                local_path: settings.data_dir.join("storage").display().to_string(),
                ..tiphys_controllers::Config::default()
            };
            let work = control(config, client.clone());
            let election = self.election(settings, "kube-controller-manager");
            let leading = leader::lead(client, election, stop.components.clone(), work);
            self.components.spawn("controller manager", async move { leading.await.unwrap_or(Ok(())) });
        }
    }

    /// Of a state of its own, this process is the only master, as the lock on its directory has it: one that was killed
    /// before is no other.
    fn election(&self, settings: &Settings, name: &'static str) -> Election {
        let host = &settings.node_name;
        match self.is_shared {
            true => Election { name, identity: unique_identity(host), timing: Timing::SHARED },
            false => Election { name, identity: host.clone(), timing: Timing::ALONE },
        }
    }

    /// A client for each controller's own service account.
    fn identities(&self) -> tiphys_controllers::Identities {
        let identity = self.api.identities();
        Arc::new(move |name| identity.client(User::service_account("kube-system", name, ""), name))
    }

    /// The administrator, for what the binary itself does.
    pub fn admin(&self) -> Arc<dyn Client> {
        self.api.client(User::system("kubernetes-admin", &["system:masters"]), "tiphys")
    }

    /// Ends the API server.
    pub async fn end(self, stop: &Stop) -> Result<()> {
        stop.api.cancel();
        Ok(self.api.ended().await?)
    }
}

/// The scheduler, as [`leader::lead`] starts it.
pub fn schedule(
    client: Arc<dyn Client>,
) -> impl Fn(CancellationToken) -> BoxFuture<'static, Result<()>> + Send + 'static {
    move |stop| {
        let running = tiphys_scheduler::run(tiphys_scheduler::Config::default(), client.clone(), stop);
        Box::pin(async move {
            running.await;
            Ok(())
        })
    }
}

/// The controllers, as [`leader::lead`] starts them.
pub fn control(
    config: tiphys_controllers::Config,
    client: Arc<dyn Client>,
) -> impl Fn(CancellationToken) -> BoxFuture<'static, Result<()>> + Send + 'static {
    move |stop| {
        let running = tiphys_controllers::run(config.clone(), client.clone(), stop);
        Box::pin(async move { running.await.context("the controller manager failed") })
    }
}
