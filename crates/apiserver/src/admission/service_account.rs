//! ServiceAccount: every pod runs as an account, and finds its token, the cluster's CA and its namespace in a volume.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::{Gvr, Object, Status, Value, json};

use super::tree::{items, list, text};
use super::{Operation, Plugin, Review};
use crate::auth::Lister;

const SERVICE_ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
/// Where clients in pods look.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The account of pods that name none. A controller makes it in every new namespace.
const DEFAULT: &str = "default";
/// How long a pod in a new namespace waits for that.
const DEFAULT_WITHIN: Duration = Duration::from_secs(1);
const VOLUME_PREFIX: &str = "kube-api-access-";
/// A pod that mirrors a file of the node, not made through the API.
pub(super) const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// See the module.
pub struct ServiceAccount {
    lister: Arc<dyn Lister>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Option<Vec<Value>>,
}

impl ServiceAccount {
    /// Reads accounts from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }

    async fn account(&self, review: &Review<'_>) -> Result<Account, Status> {
        let name = text(review.object, "/spec/serviceAccountName");
        let Some(object) = self.find(review.namespace, name).await else {
            let namespace = review.namespace;
            return Err(review.forbidden(&format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            )));
        };
        object.decode().map_err(Status::internal)
    }

    async fn find(&self, namespace: &str, name: &str) -> Option<Object> {
        let get = || self.lister.get(&SERVICE_ACCOUNTS, namespace, name);
        if let Some(found) = get() {
            return Some(found);
        }
        self.lister.refresh().await;
        let arrives = async {
            loop {
                let change = self.lister.next_change();
                match get() {
                    Some(found) => return found,
                    None => change.await,
                }
            }
        };
        match name {
            DEFAULT => tokio::time::timeout(DEFAULT_WITHIN, arrives).await.ok(),
            _ => get(),
        }
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        if !review.creates("", "pods") || review.object.pointer(MIRROR).is_some() {
            return Ok(());
        }
        if text(review.object, "/spec/serviceAccountName").is_empty() {
            let old_name = text(review.object, "/spec/serviceAccount");
            let name = if old_name.is_empty() { DEFAULT } else { old_name }.to_owned();
            review.object["spec"]["serviceAccountName"] = name.into();
        }
        review.object["spec"]["serviceAccount"] = review.object["spec"]["serviceAccountName"].clone();
        let account = self.account(review).await?;
        let spec = &mut review.object["spec"];
        let asked =
            spec["automountServiceAccountToken"].as_bool().or(account.automount_service_account_token);
        if asked.unwrap_or(true) {
            mount(spec);
        }
        let secrets = account.image_pull_secrets.filter(|secrets| !secrets.is_empty());
        if let (true, Some(secrets)) = (items(spec, "/imagePullSecrets").is_empty(), secrets) {
            spec["imagePullSecrets"] = secrets.into();
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let mirror = review.operation == Operation::Create && review.object.pointer(MIRROR).is_some();
        if !mirror || !review.is("", "pods") {
            return Ok(());
        }
        if !text(review.object, "/spec/serviceAccountName").is_empty() {
            return Err(review.forbidden("a mirror pod may not reference service accounts"));
        }
        let secret = |volume: &Value| {
            let projected = items(volume, "/projected/sources");
            volume.get("secret").is_some() || projected.iter().any(|s| s.get("serviceAccountToken").is_some())
        };
        match items(review.object, "/spec/volumes").iter().any(secret) {
            true => Err(review.forbidden("a mirror pod may not reference secrets or service account tokens")),
            false => Ok(()),
        }
    }
}

/// Adds the volume and its mounts where a container has nothing there yet.
fn mount(spec: &mut Value) {
    let present = items(spec, "/volumes").iter().map(|volume| text(volume, "/name"));
    let present = present.filter(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned).next();
    let name = present.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix()));
    let mut mounted = false;
    for key in ["initContainers", "containers"] {
        for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            mounted |= mount_into(container, &name);
        }
    }
    if mounted
        && present.is_none()
        && let Some(volumes) = list(spec, "volumes")
    {
        volumes.push(volume(&name));
    }
}

fn mount_into(container: &mut Value, volume: &str) -> bool {
    if items(container, "/volumeMounts").iter().any(|mount| text(mount, "/mountPath") == MOUNT_PATH) {
        return false;
    }
    let mount = json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH });
    list(container, "volumeMounts").is_some_and(|mounts| {
        mounts.push(mount);
        true
    })
}

fn volume(name: &str) -> Value {
    let namespace = json!({ "apiVersion": "v1", "fieldPath": "metadata.namespace" });
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": namespace }] } },
            ],
        },
    })
}

/// Five letters and digits that form no words.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let random = uuid::Uuid::new_v4();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    random.as_bytes().iter().take(5).map(letter).collect()
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a literal reads best as a value")]
mod tests {
    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::testing::Fake;

    fn plugin() -> ServiceAccount {
        let fake = Fake::default();
        fake.put_named(&SERVICE_ACCOUNTS, "ns", "default", "u");
        fake.put(
            &SERVICE_ACCOUNTS,
            &json!({"metadata": {"namespace": "ns", "name": "quiet"}, "automountServiceAccountToken": false,
                    "imagePullSecrets": [{"name": "pull"}]}),
        );
        ServiceAccount::new(Arc::new(fake))
    }

    fn pod(spec: Value) -> Case {
        Case::create("pods", "ns", json!({"metadata": {"name": "x"}, "spec": spec}))
    }

    #[tokio::test]
    async fn a_pod_gets_the_default_account_and_its_token() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [
            {"name": "own", "mountPath": MOUNT_PATH}]}], "initContainers": [{"name": "i"}]});
        let pod = pod(spec).mutate(&plugin()).await.unwrap();
        let spec = &pod["spec"];
        assert_eq!(
            (&spec["serviceAccountName"], &spec["serviceAccount"]),
            (&json!("default"), &json!("default"))
        );
        let name = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == VOLUME_PREFIX.len() + 5);
        let mount = json!([{"name": name, "readOnly": true, "mountPath": MOUNT_PATH}]);
        assert_eq!(
            (&spec["containers"][0]["volumeMounts"], &spec["initContainers"][0]["volumeMounts"]),
            (&mount, &mount)
        );
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        let sources = &spec["volumes"][0]["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 3607);
        assert_eq!(sources.as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn an_account_may_refuse_the_mount_and_bring_pull_secrets() {
        let spec = json!({"serviceAccountName": "quiet", "containers": [{"name": "a"}]});
        let quiet = pod(spec.clone()).mutate(&plugin()).await.unwrap();
        assert_eq!(quiet["spec"]["volumes"], Value::Null);
        assert_eq!(quiet["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
        let mut insisting = spec;
        insisting["automountServiceAccountToken"] = true.into();
        let mounted = pod(insisting).mutate(&plugin()).await.unwrap();
        assert_eq!(mounted["spec"]["volumes"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_account_that_is_not_there_is_told() {
        let refused = pod(json!({"serviceAccountName": "no"})).mutate(&plugin()).await.unwrap_err();
        assert_eq!(
            refused.message,
            r#"pods "x" is forbidden: error looking up service account ns/no: serviceaccount "no" not found"#
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_waits_a_moment_for_the_default_account() {
        let fake = Arc::new(Fake::default());
        let plugin = ServiceAccount::new(fake.clone());
        let refused = pod(json!({})).mutate(&plugin).await.unwrap_err();
        assert!(refused.message.ends_with(r#"serviceaccount "default" not found"#), "{refused}");
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            fake.put_named(&SERVICE_ACCOUNTS, "ns", "default", "u");
        };
        let (admitted, ()) = tokio::join!(pod(json!({})).mutate(&plugin), late);
        assert_eq!(admitted.unwrap()["spec"]["serviceAccountName"], "default");
    }

    #[tokio::test]
    async fn mirror_pods_have_no_account() {
        let mirror = |spec: Value| {
            let annotations = json!({"kubernetes.io/config.mirror": "hash"});
            Case::create(
                "pods",
                "ns",
                json!({"metadata": {"name": "x", "annotations": annotations}, "spec": spec}),
            )
        };
        assert_eq!(mirror(json!({})).mutate(&plugin()).await.unwrap()["spec"], json!({}));
        assert!(mirror(json!({})).validate(&plugin()).await.is_ok());
        assert!(mirror(json!({"serviceAccountName": "default"})).validate(&plugin()).await.is_err());
        assert!(mirror(json!({"volumes": [{"secret": {}}]})).validate(&plugin()).await.is_err());
    }
}
