//! Tokens that nodes join with: removed when they expire, and used to sign what a joining node reads first.
//!
//! The ConfigMap `cluster-info` in `kube-public` tells everyone where the cluster is. A node that knows a token checks the
//! signature made with it, so that it needs not trust the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, DeleteOptions, Informer, Target, WorkQueue};

use super::View;
use crate::context::{Context, Key, Outcome, ignore_not_found, until};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

fn is_token(secret: &Object) -> Option<View> {
    let view: View = secret.decode().ok()?;
    (*secret.meta().namespace == *NAMESPACE && view.kind == TYPE).then_some(view)
}

/// When a token expires; `None`: never. One that is unreadable has expired.
fn expires(token: &View) -> Option<Timestamp> {
    let text = token.text("expiration");
    (!text.is_empty()).then(|| text.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Removes expired tokens until the context stops.
pub(crate) async fn run_cleaner(context: Arc<Context>) {
    let secrets = context.informers.scoped(&Secret::GVR, NAMESPACE, "");
    let client = context.client("token-cleaner");
    let queue = WorkQueue::named("token_cleaner");
    let to = queue.clone();
    secrets.on_change(Box::new(move |_, new| {
        if let Some(secret) = new.filter(|secret| is_token(secret).is_some()) {
            to.add(Key::of(secret));
        }
    }));
    let informer = secrets.clone();
    let reconcile = move |key: Key| {
        let (client, secrets) = (client.clone(), informer.clone());
        async move {
            let Some(secret) = secrets.get(&key.namespace, &key.name) else { return Ok(None) };
            let Some(at) = is_token(&secret).as_ref().and_then(expires) else { return Ok(None) };
            let left = until(at, Timestamp::now());
            if left > Duration::ZERO {
                return Ok(Some(left));
            }
            let options = DeleteOptions::of(secret.meta());
            let target = Target::new(&Secret::GVR, &key.namespace, &key.name);
            ignore_not_found(client.delete(&target, &options).await.map(drop)).map(|()| None)
        }
    };
    context.work(queue, 1, &[&secrets], reconcile).await;
}

struct Signer {
    client: Arc<dyn Client>,
    secrets: Arc<Informer>,
    maps: Arc<Informer>,
}

/// Keeps the signatures of `cluster-info` until the context stops.
pub(crate) async fn run_signer(context: Arc<Context>) {
    let signer = Arc::new(Signer {
        client: context.client("bootstrap-signer"),
        secrets: context.informers.scoped(&Secret::GVR, NAMESPACE, ""),
        maps: context.informers.scoped(&ConfigMap::GVR, PUBLIC, ""),
    });
    let queue = WorkQueue::named("bootstrap_signer_queue");
    let to = queue.clone();
    signer.secrets.on_change(Box::new(move |old, new| {
        if [old, new].into_iter().flatten().any(|secret| is_token(secret).is_some()) {
            to.add(());
        }
    }));
    let to = queue.clone();
    signer.maps.on_change(Box::new(move |_, new| {
        if new.is_some_and(|map| *map.meta().name == *INFO) {
            to.add(());
        }
    }));
    let informers = [signer.secrets.clone(), signer.maps.clone()];
    let reconcile = move |()| {
        let signer = signer.clone();
        async move { signer.sign().await }
    };
    context.work(queue, 1, &informers.each_ref(), reconcile).await;
}

impl Signer {
    async fn sign(&self) -> Outcome {
        let Some(object) = self.maps.get(PUBLIC, INFO) else { return Ok(None) };
        let mut map: ConfigMap = decode(&object).map_err(Status::internal)?;
        let tokens: Vec<View> = self.secrets.list(NAMESPACE).iter().filter_map(is_token).collect();
        let Some(data) = signed(map.data.as_ref().unwrap_or(&BTreeMap::new()), &tokens, Timestamp::now())
        else {
            return Ok(None);
        };
        map.data = Some(data);
        let api = Api::<ConfigMap>::new(self.client.clone(), PUBLIC);
        ignore_not_found(api.update(&map).await.map(drop)).map(|()| None)
    }
}

/// The data with exactly the signatures that there should be; `None` when it has them.
fn signed(
    known: &BTreeMap<String, String>,
    tokens: &[View],
    now: Timestamp,
) -> Option<BTreeMap<String, String>> {
    let kubeconfig = known.get(KUBECONFIG)?.clone();
    let mut data = known.clone();
    data.retain(|key, _| !key.starts_with(SIGNATURE));
    for token in tokens {
        let (id, secret) = (token.text("token-id"), token.text("token-secret"));
        let signs = token.text("usage-bootstrap-signing") == "true" && !id.is_empty() && !secret.is_empty();
        if signs && expires(token).is_none_or(|at| at > now) {
            data.insert(format!("{SIGNATURE}{id}"), signature(&kubeconfig, id, secret)?);
        }
    }
    (data != *known).then_some(data)
}

/// A detached JWS of a text, as kubeadm checks it.
fn signature(text: &str, id: &str, secret: &str) -> Option<String> {
    let header = encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#).as_bytes());
    let message = format!("{header}.{}", encode(text.as_bytes()));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).ok()?;
    Some(format!("{header}..{signature}"))
}

/// Base64 for URLs, without padding.
fn encode(bytes: &[u8]) -> String {
    let text = tiphys_api::Value::of(ByteString(bytes.to_vec())).unwrap_or_default();
    text.as_str().unwrap_or_default().trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    fn token(id: &str, more: &[(&str, &str)]) -> Secret {
        let text = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        let mut data = json!({"token-id": text(id), "token-secret": text("0123456789abcdef")});
        more.iter().for_each(|(key, value)| data[key] = text(value));
        let meta = json!({"name": format!("bootstrap-token-{id}"), "namespace": NAMESPACE});
        typed(json!({"metadata": meta, "type": TYPE, "data": data}))
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_sign_and_expire() {
        let client = FakeClient::new();
        let info = json!({"metadata": {"name": INFO, "namespace": PUBLIC}, "data": {"kubeconfig": "where"}});
        client.put(&typed::<ConfigMap>(info));
        client.put(&token("abcdef", &[("usage-bootstrap-signing", "true")]));
        client.put(&token("silent", &[]));
        client.put(&token(
            "ancient",
            &[("expiration", "2020-01-01T00:00:00Z"), ("usage-bootstrap-signing", "true")],
        ));
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        let data = || client.find::<ConfigMap>(PUBLIC, INFO).unwrap().data.unwrap();
        assert_eq!(data().keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        let jws = &data()["jws-kubeconfig-abcdef"];
        // {"alg":"HS256","kid":"abcdef"}, and what openssl makes of it.
        assert!(jws.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."), "{jws}");
        assert!(client.find::<Secret>(NAMESPACE, "bootstrap-token-ancient").is_none());
        client.remove(&Secret::GVR, NAMESPACE, "bootstrap-token-abcdef");
        cluster.settle().await;
        assert_eq!(data().len(), 1);
    }
}
