//! Tokens that are kept as Secrets, as every account had one before tokens were asked for: on which day one was last used
//! is noted on its Secret, and one that is marked as invalid does not count. The controller
//! `legacy-serviceaccount-token-cleaner` lives on these notes.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tiphys_api::{Object, json};
use tiphys_client::{Client, PatchKind, Target, WriteOptions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::verify::Refused;
use super::{SECRETS, ServiceAccountTokens};
use crate::auth::Lister;

/// Where it is told since when uses are noted.
pub const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const TYPE: &str = "kubernetes.io/service-account-token";
/// Uses that wait to be noted; what is lost is used again, or not worth a note.
const WAITING_MAX: usize = 64;

/// A Secret whose token was used for the first time on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    day: String,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type", default)]
    kind: String,
}

/// The day, as labels tell it.
pub fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// Other Secrets that a token is bound to only end it with them.
fn keeps_token(secret: &Object) -> bool {
    secret.decode::<Kind>().is_ok_and(|secret| secret.kind == TYPE)
}

impl ServiceAccountTokens {
    /// The uses to be noted, from now on; to be asked for once.
    pub fn uses(&self) -> mpsc::Receiver<Use> {
        let (to, uses) = mpsc::channel(WAITING_MAX);
        // A second asker gets nothing.
        drop(self.uses.set(to));
        uses
    }

    /// Judges the Secret that a token is bound to, and has its use noted.
    pub(super) fn check_kept(&self, secret: &Object, now: Timestamp) -> Result<(), Refused> {
        let meta = secret.meta();
        let label = |key| meta.labels.get(key).filter(|value| !value.is_empty());
        let (marked, today) = (label(INVALID_SINCE).is_some(), day(now));
        let noted = label(LAST_USED) == Some(today.as_str());
        if (noted && !marked) || !keeps_token(secret) {
            return Ok(());
        }
        if marked {
            return Err(Refused::Marked { secret: meta.key() });
        }
        if let Some(uses) = self.uses.get() {
            let (namespace, name, uid) = (meta.namespace.clone(), meta.name.clone(), meta.uid.clone());
            // Whoever comes next today has it noted.
            drop(uses.try_send(Use { namespace, name, uid, day: today }));
        }
        Ok(())
    }
}

/// Notes uses until `stop`; `client` acts as the API server itself.
pub async fn note(
    client: Arc<dyn Client>,
    lister: Arc<dyn Lister>,
    mut uses: mpsc::Receiver<Use>,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! { next = uses.recv() => next, () = stop.cancelled() => None };
        let Some(Use { namespace, name, uid, day }) = next else { return };
        let secret = lister.get(&SECRETS, &namespace, &name);
        // Many requests come before the first is noted.
        if secret.is_none_or(|secret| secret.meta().labels.get(LAST_USED) == Some(day.as_str())) {
            continue;
        }
        let patch = json!({"metadata": {"uid": uid, "labels": {(LAST_USED): day}}}).to_string();
        let target = Target::new(&SECRETS, &namespace, &name);
        let options = WriteOptions::default();
        if let Err(status) = client.patch(&target, PatchKind::Merge, patch.into(), &options).await {
            tracing::debug!(secret = target.path(), %status, "the use of its token could not be noted");
        }
    }
}
