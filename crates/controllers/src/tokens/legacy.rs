//! Tokens that were once made for every service account, unasked: one that nobody has used for a year is first marked as
//! invalid, so that whoever still needs it finds out and can take the mark off, and after another year removed.
//!
//! The API server notes on a Secret when its token was last used, and in a ConfigMap since when it does so. Only what the
//! account itself lists as its Secret was made unasked; what a pod mentions is in use whatever the notes say. Looked at
//! once a day, as Kubernetes does: the dates tell days, and nothing else changes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use tiphys_api::{Object, Status, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Api, Client, DeleteOptions, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use super::View;
use super::service_account::{ACCOUNT, ACCOUNT_UID, is_token};
use crate::context::{Context, ignore_not_found};
use crate::pods::{Facts, Pods};

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How long a token is to be unused.
const UNUSED_DAYS: i64 = 365;
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

struct Cleaner {
    client: Arc<dyn Client>,
    secrets: Arc<Informer>,
    accounts: Arc<Informer>,
    pods: Arc<Pods>,
}

/// What becomes of a token.
#[derive(Debug, PartialEq)]
enum Step {
    Keep,
    Mark,
    Remove,
}

/// Decides about a token that was made unasked and that no pod mentions. What was made or used since `limit` stays.
fn plan(secret: &Object, limit: Date) -> Step {
    let meta = secret.meta();
    let label = |key: &str| meta.labels.get(key).map(str::parse::<Date>);
    let made = meta.created.map(day);
    if made.is_none_or(|made| made >= limit) || meta.deleted.is_some() {
        return Step::Keep;
    }
    match (label(LAST_USED), label(INVALID_SINCE)) {
        // What cannot be read tells nothing: it may have been used today.
        (Some(Err(_)), _) => Step::Keep,
        (Some(Ok(used)), _) if used >= limit => Step::Keep,
        (_, Some(Ok(marked))) if marked >= limit => Step::Keep,
        (_, Some(Ok(_))) => Step::Remove,
        (_, None | Some(Err(_))) => Step::Mark,
    }
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let cleaner = Arc::new(Cleaner {
        client: context.client("legacy-service-account-token-cleaner"),
        secrets: context.informer(&Secret::GVR),
        accounts: context.informer(&ServiceAccount::GVR),
        pods: context.pods.clone(),
    });
    let queue = WorkQueue::named("legacy_service_account_token_cleaner");
    queue.add(());
    let informers = [cleaner.secrets.clone(), cleaner.accounts.clone(), cleaner.pods.informer().clone()];
    let reconcile = move |()| {
        let cleaner = cleaner.clone();
        async move { cleaner.clean(day(Timestamp::now())).await.map(|()| Some(EVERY)) }
    };
    context.work(queue, 1, &informers.each_ref(), reconcile).await;
}

impl Cleaner {
    async fn clean(&self, today: Date) -> Result<(), Status> {
        let limit = today.saturating_sub(UNUSED_DAYS.days());
        // The day on which it began is not known as a whole.
        if self.tracked_since().await?.is_none_or(|since| since >= limit) {
            return Ok(());
        }
        let tokens = self.secrets.filter("", is_token);
        let mut pods: BTreeMap<Box<str>, Vec<Arc<Facts>>> = BTreeMap::new();
        for secret in tokens {
            let step = plan(&secret, limit);
            if step == Step::Keep || !self.was_unasked(&secret) {
                continue;
            }
            let namespace = secret.meta().namespace.clone();
            let here = pods.entry(namespace).or_insert_with_key(|name| self.pods.in_namespace(name));
            if !here.iter().any(|pod| mentions(pod, &secret.meta().name)) {
                self.carry_out(&secret, &step, today).await?;
            }
        }
        Ok(())
    }

    /// Since when uses are noted, if they are.
    async fn tracked_since(&self) -> Result<Option<Date>, Status> {
        let api = Api::<ConfigMap>::new(self.client.clone(), "kube-system");
        let map = ignore_not_found(api.get(TRACKING).await.map(Some))?;
        Ok(map.and_then(|map| map.data?.get("since")?.parse().ok()))
    }

    /// Whether the account of a token lists its Secret.
    fn was_unasked(&self, secret: &Object) -> bool {
        let Ok(view) = secret.decode::<View>() else { return false };
        let account = self.accounts.get(&secret.meta().namespace, view.annotation(ACCOUNT));
        let uid = view.annotation(ACCOUNT_UID);
        let account = account.filter(|account| uid.is_empty() || *account.meta().uid == *uid);
        let listed = account.and_then(|account| account.decode::<Account>().ok()).and_then(|a| a.secrets);
        listed.into_iter().flatten().any(|listed| *listed.name == *secret.meta().name)
    }

    async fn carry_out(&self, secret: &Object, step: &Step, today: Date) -> Result<(), Status> {
        let meta = secret.meta();
        let target = Target::new(&Secret::GVR, &meta.namespace, &meta.name);
        let done = if *step == Step::Remove {
            let options =
                DeleteOptions { resource_version: Some(meta.resource_version), ..DeleteOptions::of(meta) };
            self.client.delete(&target, &options).await.map(drop)
        } else {
            let labels = json!({(INVALID_SINCE): today.to_string()});
            let patch = json!({"metadata": {"uid": meta.uid, "labels": labels}}).to_string();
            self.client
                .patch(&target, PatchKind::Merge, patch.into(), &WriteOptions::default())
                .await
                .map(drop)
        };
        match ignore_not_found(done) {
            // It was used, marked or unmarked meanwhile: tomorrow is another day.
            Err(status) if status.is("Conflict") => Ok(()),
            other => other,
        }
    }
}

#[derive(serde::Deserialize)]
struct Account {
    secrets: Option<Vec<Listed>>,
}

#[derive(serde::Deserialize)]
struct Listed {
    #[serde(default)]
    name: String,
}

/// Whether a pod has a Secret's name anywhere: better one too many than one in use.
fn mentions(pod: &Facts, secret: &str) -> bool {
    let quoted = format!("\"{secret}\"");
    pod.object.json().windows(quoted.len()).any(|part| part == quoted.as_bytes())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use tiphys_api::Value;
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::Config;
    use crate::testing::{Cluster, typed};

    fn ago(days: i64) -> String {
        day(Timestamp::now()).saturating_sub(days.days()).to_string()
    }

    fn put(client: &FakeClient, name: &str, labels: &Value) {
        let meta = json!({"name": name, "namespace": "n", "labels": labels,
            "creationTimestamp": "2020-01-01T00:00:00Z", "annotations": {(ACCOUNT): "a"}});
        let secret = json!({"metadata": meta, "type": "kubernetes.io/service-account-token"});
        client.put(&typed::<Secret>(secret));
    }

    /// Which of the Secrets are there, and which of them are marked.
    fn left(client: &FakeClient) -> (Vec<String>, Vec<String>) {
        let secrets = client.all::<Secret>("n");
        let marked =
            |secret: &&Secret| secret.metadata.labels.iter().flatten().any(|(k, _)| k == INVALID_SINCE);
        let name = |secret: &Secret| secret.name().to_owned();
        (secrets.iter().map(name).collect(), secrets.iter().filter(marked).map(name).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_is_marked_then_removed() {
        let client = FakeClient::new();
        let names = ["forgotten", "marked", "mounted", "old-mark", "unreadable", "used"];
        let listed: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let account = json!({"metadata": {"name": "a", "namespace": "n"}, "secrets": listed});
        client.put(&typed::<ServiceAccount>(account));
        put(&client, "asked-for", &json!({}));
        put(&client, "forgotten", &json!({}));
        put(&client, "marked", &json!({(INVALID_SINCE): ago(300)}));
        put(&client, "mounted", &json!({}));
        put(&client, "old-mark", &json!({(LAST_USED): ago(800), (INVALID_SINCE): ago(400)}));
        put(&client, "unreadable", &json!({(LAST_USED): "some-day"}));
        put(&client, "used", &json!({(LAST_USED): ago(20)}));
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}]}});
        client.put(&typed::<Pod>(pod));
        let tracking = |since: String| {
            let map =
                json!({"metadata": {"name": TRACKING, "namespace": "kube-system"}, "data": {"since": since}});
            client.put(&typed::<ConfigMap>(map));
        };
        tracking(ago(365));
        let all = left(&client);
        let config = Config { disabled: vec!["serviceaccount-token".into()], ..Config::default() };
        let cluster = Cluster::start_with(client.clone(), config);
        cluster.settle().await;
        assert_eq!(left(&client), all, "uses are not noted for long enough");
        tracking(ago(400));
        tokio::time::sleep(EVERY).await;
        let (there, marked) = left(&client);
        assert_eq!(there, ["asked-for", "forgotten", "marked", "mounted", "unreadable", "used"]);
        assert_eq!(marked, ["forgotten", "marked"]);
    }
}
