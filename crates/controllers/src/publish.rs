//! What every namespace gets: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.
//!
//! Both are the same controller with another object: one key per namespace, and the object is made when it is missing
//! (or, for the CA, put right when it differs).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, Informer, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};

const CA_NAME: &str = "kube-root-ca.crt";
const CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
     distributions of Kubernetes clusters.";

/// Runs the ServiceAccount controller.
pub(crate) async fn run_service_accounts(context: Arc<Context>) {
    let wanted = json!({"metadata": {"name": "default"}});
    run::<ServiceAccount>(context, "service-account-controller", "default", wanted, &[]).await;
}

/// Runs the root-CA publisher; without a CA there is nothing to do.
pub(crate) async fn run_root_ca(context: Arc<Context>) {
    if context.config.root_ca.is_empty() {
        return;
    }
    let wanted = json!({
        "metadata": {"name": CA_NAME, "annotations": {"kubernetes.io/description": CA_DESCRIPTION}},
        "data": {"ca.crt": context.config.root_ca},
    });
    run::<ConfigMap>(context, "root-ca-cert-publisher", CA_NAME, wanted, &["data"]).await;
}

struct Publisher {
    client: Arc<dyn Client>,
    namespaces: Arc<Informer>,
    objects: Arc<Informer>,
    wanted: Value,
    /// Fields that are put right when they differ.
    kept: &'static [&'static str],
}

async fn run<T: Kind>(
    context: Arc<Context>,
    identity: &'static str,
    name: &'static str,
    wanted: Value,
    kept: &'static [&'static str],
) {
    let namespaces = context.informer(&Namespace::GVR);
    let objects = context.informer(&T::GVR);
    let queue = WorkQueue::named(identity);
    let to = queue.clone();
    namespaces.on_change(Box::new(move |_, new| {
        if let Some(namespace) = new {
            to.add(Key::of(namespace));
        }
    }));
    let to = queue.clone();
    objects.on_change(Box::new(move |old, new| {
        // Creations need no answer.
        if let Some(object) = old.and(new).or(old).filter(|object| *object.meta().name == *name) {
            to.add(Key::new("", &object.meta().namespace));
        }
    }));
    let client = context.client(identity);
    let publisher = Arc::new(Publisher {
        client,
        namespaces: namespaces.clone(),
        objects: objects.clone(),
        wanted,
        kept,
    });
    let reconcile = move |key: Key| {
        let publisher = publisher.clone();
        async move { publisher.reconcile::<T>(&key.name, name).await }
    };
    context.work(queue, 2, &[&namespaces, &objects], reconcile).await;
}

impl Publisher {
    async fn reconcile<T: Kind>(&self, namespace: &str, name: &str) -> Outcome {
        let alive = self.namespaces.get("", namespace).is_some_and(|found| found.meta().deleted.is_none());
        if !alive {
            return Ok(None);
        }
        let target = Target::new(&T::GVR, namespace, name);
        let options = WriteOptions::default();
        match self.objects.get(namespace, name) {
            None => {
                let made = self.client.create(&target, self.wanted.to_string().into(), &options).await;
                settled(made.map(drop))?;
            }
            Some(found) => {
                if let Some(mended) = self.mended(&found) {
                    let updated = self.client.update(&target, mended.to_string().into(), &options).await;
                    settled(updated.map(drop))?;
                }
            }
        }
        Ok(None)
    }

    /// The object with the kept fields put right, if one is wrong.
    fn mended(&self, found: &Object) -> Option<Value> {
        let mut value = found.value().ok()?;
        let wrong: Vec<_> = self.kept.iter().filter(|field| value[**field] != self.wanted[**field]).collect();
        for field in &wrong {
            value[**field] = self.wanted[**field].clone();
        }
        (!wrong.is_empty()).then_some(value)
    }
}

/// What others did first, or what ends with its namespace, needs no retry.
fn settled(result: Result<(), Status>) -> Result<(), Status> {
    let terminating = |status: &Status| {
        status.details.iter().flat_map(|d| &d.causes).any(|cause| cause.reason == "NamespaceTerminating")
    };
    match ignore_not_found(result) {
        Err(status) if status.is("AlreadyExists") || terminating(&status) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::testing::{Cluster, typed};
    use tiphys_client::fake::FakeClient;

    #[tokio::test(start_paused = true)]
    async fn namespaces_get_their_account_and_ca_and_keep_them() {
        let client = FakeClient::new();
        client.put::<Namespace>(&typed(json!({"metadata": {"name": "shop"}})));
        let config = Config { root_ca: "PEM".into(), ..Config::default() };
        let cluster = Cluster::start_with(client.clone(), config);
        cluster.settle().await;
        let ca =
            || client.find::<ConfigMap>("shop", CA_NAME).and_then(|map| map.data?.get("ca.crt").cloned());
        assert!(client.find::<ServiceAccount>("shop", "default").is_some());
        assert_eq!(ca().as_deref(), Some("PEM"));

        client.remove(&ServiceAccount::GVR, "shop", "default");
        client.put::<ConfigMap>(&typed(json!({
            "metadata": {"name": CA_NAME, "namespace": "shop"}, "data": {"ca.crt": "forged"}})));
        cluster.settle().await;
        assert!(client.find::<ServiceAccount>("shop", "default").is_some());
        assert_eq!(ca().as_deref(), Some("PEM"));
    }
}
