//! One client per service account, from a single kubeconfig: what the real controller manager does with
//! `--use-service-account-credentials`.
//!
//! - The account is made when missing, in `kube-system`; its token comes from `serviceaccounts/token` and is renewed at
//!   four fifths of its life, by the first call that finds it old, and once the server does not know it any more. Nothing
//!   ticks.
//! - So each controller is held to its own role, also when the controller manager is a process of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tiphys_api::{Gvr, Object, Status, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::remote::{Config, Identity, RemoteClient};
use crate::{
    Client, DeleteOptions, ListOptions, ObjectList, PatchKind, Target, WatchOptions, WatchStream,
    WriteOptions,
};

const ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
const NAMESPACE: &str = "kube-system";
/// Life of a token, in seconds; the API gives no less than ten minutes.
const TOKEN_SECONDS: u64 = 3600;
const LIFE: Duration = Duration::from_secs(TOKEN_SECONDS);
const RENEW_AFTER: Duration = Duration::from_secs(TOKEN_SECONDS * 4 / 5);

/// A [`Client`] with a service account's identity.
pub struct AccountClient {
    config: Config,
    base: Arc<dyn Client>,
    name: String,
    current: Mutex<Option<(Arc<RemoteClient>, Instant)>>,
}

impl AccountClient {
    /// `base` may make accounts and their tokens at the server of `config`.
    pub fn new(config: &Config, base: Arc<dyn Client>, name: &str) -> Self {
        Self { config: config.clone(), base, name: name.to_owned(), current: Mutex::default() }
    }

    /// The client with a token that is good for a while.
    async fn inner(&self) -> Result<Arc<RemoteClient>, Status> {
        let mut current = self.current.lock().await;
        if let Some((client, since)) = current.as_ref()
            && since.elapsed() < RENEW_AFTER
        {
            return Ok(client.clone());
        }
        let token = match (self.token().await, current.as_ref()) {
            (Ok(token), _) => token,
            // The old one is good for a while yet.
            (Err(_), Some((client, since))) if since.elapsed() < LIFE => return Ok(client.clone()),
            (Err(status), _) => return Err(status),
        };
        let identity = Identity::Token(token);
        let config = Config { identity, ..self.config.clone() };
        let client = Arc::new(RemoteClient::new(&config).map_err(Status::internal)?);
        *current = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    /// Passes an answer on. One that says that the token is not known any more (its account was made anew, the clock
    /// stood still) makes the next call ask for another.
    async fn judge<T>(&self, by: &Arc<RemoteClient>, answer: Result<T, Status>) -> Result<T, Status> {
        if answer.as_ref().is_err_and(|status| status.code == 401) {
            let mut current = self.current.lock().await;
            current.take_if(|(client, _)| Arc::ptr_eq(client, by));
        }
        answer
    }

    async fn token(&self) -> Result<String, Status> {
        let account = Target::new(&ACCOUNTS, NAMESPACE, &self.name);
        let options = WriteOptions::default();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        });
        let token = account.clone().sub("token");
        let ask = || self.base.create(&token, request.to_string().into(), &options);
        let answer = match ask().await {
            Err(status) if status.is("NotFound") => {
                let metadata = json!({"name": self.name, "namespace": NAMESPACE});
                let new = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
                match self.base.create(&account, new.to_string().into(), &options).await {
                    Err(status) if !status.is("AlreadyExists") => return Err(status),
                    _ => ask().await?,
                }
            }
            other => other?,
        };
        let answer = answer.value().map_err(Status::internal)?;
        let token = answer.pointer("/status/token").and_then(tiphys_api::Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Status::internal("the API server answered without a token"))
    }
}

#[async_trait]
impl Client for AccountClient {
    async fn get(&self, target: &Target) -> Result<Object, Status> {
        let client = self.inner().await?;
        let answer = client.get(target).await;
        self.judge(&client, answer).await
    }

    async fn list(&self, gvr: &Gvr, namespace: &str, options: &ListOptions) -> Result<ObjectList, Status> {
        let client = self.inner().await?;
        let answer = client.list(gvr, namespace, options).await;
        self.judge(&client, answer).await
    }

    async fn watch(&self, gvr: &Gvr, namespace: &str, options: &WatchOptions) -> Result<WatchStream, Status> {
        let client = self.inner().await?;
        let answer = client.watch(gvr, namespace, options).await;
        self.judge(&client, answer).await
    }

    async fn create(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status> {
        let client = self.inner().await?;
        let answer = client.create(target, body, options).await;
        self.judge(&client, answer).await
    }

    async fn update(&self, target: &Target, body: Bytes, options: &WriteOptions) -> Result<Object, Status> {
        let client = self.inner().await?;
        let answer = client.update(target, body, options).await;
        self.judge(&client, answer).await
    }

    async fn patch(
        &self,
        target: &Target,
        kind: PatchKind,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let client = self.inner().await?;
        let answer = client.patch(target, kind, body, options).await;
        self.judge(&client, answer).await
    }

    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Object>, Status> {
        let client = self.inner().await?;
        let answer = client.delete(target, options).await;
        self.judge(&client, answer).await
    }

    async fn get_path(&self, path: &str) -> Result<Bytes, Status> {
        let client = self.inner().await?;
        let answer = client.get_path(path).await;
        self.judge(&client, answer).await
    }
}
