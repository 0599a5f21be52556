//! Secrets of the type `kubernetes.io/service-account-token`: filled with a token of the account they name, and removed
//! with it.
//!
//! The token is asked of the API server and bound to the Secret, so that it ends with it. (Kubernetes' own controller
//! signs such tokens itself, without an end; here one lives for ten years, and no second place holds the key.)

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, Target, WorkQueue, WriteOptions};

use super::View;
use crate::context::{Context, Key, Outcome, ignore_not_found};

const TYPE: &str = "kubernetes.io/service-account-token";
pub(super) const ACCOUNT: &str = "kubernetes.io/service-account.name";
pub(super) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// An account that is made right after its Secret is waited for.
const NEW: Duration = Duration::from_secs(10);

struct Controller {
    client: Arc<dyn Client>,
    accounts: Arc<Informer>,
    secrets: Arc<Informer>,
    root_ca: String,
}

/// What becomes of a Secret.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    /// Its account is not there, or is another one by now.
    Remove,
    Fill,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let controller = Arc::new(Controller {
        // Asking for others' tokens is a right of the controller manager itself.
        client: context.informers.client().clone(),
        accounts: context.informer(&ServiceAccount::GVR),
        secrets: context.informer(&Secret::GVR),
        root_ca: context.config.root_ca.clone(),
    });
    let queue = WorkQueue::named("serviceaccount_tokens_service");
    let to = queue.clone();
    controller.secrets.on_change(Box::new(move |_, new| {
        if let Some(secret) = new.filter(|secret| is_token(secret)) {
            to.add(Key::of(secret));
        }
    }));
    let (weak, to) = (Arc::downgrade(&controller.secrets), queue.clone());
    controller.accounts.on_change(Box::new(move |old, new| {
        let (Some(account), true, Some(secrets)) =
            (new.or(old), old.is_none() || new.is_none(), weak.upgrade())
        else {
            return;
        };
        let of_account = |secret: &Object| is_token(secret) && names(secret, &account.meta().name);
        let tokens = secrets.filter(&account.meta().namespace, of_account);
        tokens.iter().for_each(|secret| to.add(Key::of(secret)));
    }));
    let informers = [&controller.accounts, &controller.secrets].map(Arc::clone);
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, 2, &informers.each_ref(), reconcile).await;
}

/// Looks at the text first: most Secrets are of other types.
pub(super) fn is_token(secret: &Object) -> bool {
    let mark = TYPE.as_bytes();
    secret.json().windows(mark.len()).any(|window| window == mark)
        && secret.decode::<View>().is_ok_and(|view| view.kind == TYPE)
}

fn names(secret: &Object, account: &str) -> bool {
    secret.decode::<View>().is_ok_and(|view| view.annotation(ACCOUNT) == account)
}

fn plan(secret: &View, account: Option<&Object>) -> Step {
    let uid = secret.annotation(ACCOUNT_UID);
    let Some(account) = account else { return Step::Remove };
    if !uid.is_empty() && uid != &*account.meta().uid {
        return Step::Remove;
    }
    let whole = ["token", "ca.crt", "namespace"].iter().all(|key| !secret.bytes(key).is_empty());
    if whole && !uid.is_empty() { Step::Nothing } else { Step::Fill }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(secret) = self.secrets.get(&key.namespace, &key.name) else { return Ok(None) };
        if secret.meta().deleted.is_some() {
            return Ok(None);
        }
        let view: View = secret.decode().map_err(Status::internal)?;
        let name = view.annotation(ACCOUNT);
        let cached = self.accounts.get(&key.namespace, name);
        let account = match cached {
            Some(account) => Some(account),
            None => {
                let target = Target::new(&ServiceAccount::GVR, &key.namespace, name);
                ignore_not_found(self.client.get(&target).await.map(Some))?
            }
        };
        match (plan(&view, account.as_ref()), account) {
            (Step::Fill, Some(account)) => self.fill(&secret, &view, &account).await.map(|()| None),
            (Step::Remove, None) if is_new(&secret) => Ok(Some(NEW)),
            (Step::Remove, _) => self.remove(&secret).await.map(|()| None),
            _ => Ok(None),
        }
    }

    async fn fill(&self, secret: &Object, view: &View, account: &Object) -> Result<(), Status> {
        let meta = secret.meta();
        let mut data = json!({"namespace": ByteString(meta.namespace.as_bytes().to_vec())});
        if !self.root_ca.is_empty() {
            data["ca.crt"] = json!(ByteString(self.root_ca.clone().into_bytes()));
        }
        if view.bytes("token").is_empty() {
            data["token"] = json!(ByteString(self.token(secret, account).await?.into_bytes()));
        }
        // As an update: the controller manager may not patch Secrets.
        let mut filled = secret.value().map_err(Status::internal)?;
        for (key, value) in data.as_object().into_iter().flatten() {
            filled["data"][key] = value.clone();
        }
        filled["metadata"]["annotations"][ACCOUNT_UID] = json!(account.meta().uid);
        let target = Target::new(&Secret::GVR, &meta.namespace, &meta.name);
        let body = filled.to_string().into();
        ignore_not_found(self.client.update(&target, body, &WriteOptions::default()).await.map(drop))
    }

    async fn token(&self, secret: &Object, account: &Object) -> Result<String, Status> {
        let meta = secret.meta();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": LIFE.as_secs(),
                "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": meta.name, "uid": meta.uid},
            },
        });
        let target = Target::new(&ServiceAccount::GVR, &meta.namespace, &account.meta().name).sub("token");
        let answer =
            self.client.create(&target, request.to_string().into(), &WriteOptions::default()).await?;
        let answer = answer.value().map_err(Status::internal)?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Status::internal("the API server answered without a token"))
    }

    async fn remove(&self, secret: &Object) -> Result<(), Status> {
        let meta = secret.meta();
        let options = DeleteOptions::of(meta);
        let target = Target::new(&Secret::GVR, &meta.namespace, &meta.name);
        ignore_not_found(self.client.delete(&target, &options).await.map(drop))
    }
}

fn is_new(secret: &Object) -> bool {
    let age = secret.meta().created.map(|at| Timestamp::now().duration_since(at));
    age.is_some_and(|age| age < SignedDuration::try_from(NEW).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let secret = |uid: &str, data: Value| -> View {
            let annotations = json!({(ACCOUNT): "a", (ACCOUNT_UID): uid});
            json!({"metadata": {"annotations": annotations}, "type": TYPE, "data": data}).to().unwrap()
        };
        let account = Object::from_value(&json!({"metadata": {"name": "a", "uid": "u"}})).unwrap();
        let whole = json!({"token": "eA==", "ca.crt": "eA==", "namespace": "eA=="});
        assert_eq!(plan(&secret("", json!({})), Some(&account)), Step::Fill);
        assert_eq!(plan(&secret("", whole.clone()), Some(&account)), Step::Fill);
        assert_eq!(plan(&secret("u", whole.clone()), Some(&account)), Step::Nothing);
        assert_eq!(plan(&secret("other", whole.clone()), Some(&account)), Step::Remove);
        assert_eq!(plan(&secret("u", whole), None), Step::Remove);
    }
}
