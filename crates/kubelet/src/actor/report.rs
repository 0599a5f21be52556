//! Keeps the API's picture of the pod's status up to date: one patch at a time, always the newest status.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::{Object, Status};
use tiphys_client::typed::Kind;
use tiphys_client::{PatchKind, Target, WriteOptions};

use super::Actor;
use crate::ops::News;
use crate::status::conditions::is_own;
use crate::{pod, push, status};

const RETRY: SignedDuration = SignedDuration::from_secs(1);

/// What the API knows, and what it is being told.
#[derive(Default)]
pub(super) struct Report {
    /// Version and status of the newest object that was seen; `None` where the API has no object.
    known: Option<(u64, Value)>,
    /// The uid of that object: the pod's own, or that of its picture in the API.
    uid: String,
    /// The status last computed.
    computed: Option<PodStatus>,
    /// The status last sent, while its answer is awaited.
    sent: Option<Value>,
    /// The status the API last took, and the form in which it keeps that. It is not sent again for the form; but it is when
    /// somebody else has changed it since, as who finds the node not ready does.
    accepted: Option<(Value, Value)>,
    pub(super) retry: Option<Timestamp>,
}

impl Report {
    pub(super) fn new(object: Option<&Object>) -> Self {
        let mut report = Self::default();
        object.into_iter().for_each(|object| report.seen(object));
        report
    }

    pub(super) fn seen(&mut self, object: &Object) {
        let version = object.meta().resource_version;
        if *self.uid != *object.meta().uid {
            *self = Self { uid: object.meta().uid.to_string(), ..Self::default() };
        }
        if self.known.as_ref().is_some_and(|(known, _)| *known >= version) {
            return;
        }
        self.known = Some((version, told(object)));
    }

    /// The object's version from the API, with this kubelet's own newest status in place of the API's, and the
    /// conditions of others as the API has them.
    pub(super) fn merged(&self, mut pod: Pod) -> Pod {
        let Some(own) = &self.computed else { return pod };
        let theirs = pod.status.take().unwrap_or_default();
        if matches!(theirs.phase.as_deref(), Some("Failed" | "Succeeded")) {
            pod.status = Some(theirs);
            return pod;
        }
        let foreign = |c: &&PodCondition| !is_own(&c.type_);
        let conditions = |from: &PodStatus, pick: &dyn Fn(&&PodCondition) -> bool| -> Vec<PodCondition> {
            from.conditions.iter().flatten().filter(pick).cloned().collect()
        };
        let mut all = conditions(own, &|c| !foreign(c));
        all.extend(conditions(&theirs, &foreign));
        pod.status = Some(PodStatus { conditions: Some(all), ..own.clone() });
        pod
    }
}

/// The status of an object.
fn told(object: &Object) -> Value {
    #[derive(Deserialize)]
    struct Told {
        status: Option<Value>,
    }
    let told = object.decode::<Told>().ok().and_then(|told| told.status);
    told.unwrap_or_else(|| json!({}))
}

impl Actor {
    /// Computes the status and, if the API does not know it yet, begins to tell it.
    pub(super) fn push(&mut self, now: Timestamp) {
        // A time that has come wakes nobody again.
        self.report.retry = self.report.retry.filter(|retry| *retry > now);
        let Some((_, known)) = self.report.known.as_ref().filter(|_| !self.state.gone) else { return };
        let status = status::status(&self.pod, &self.state, &self.ctx.node, now);
        let new = serde_json::to_value(&status).unwrap_or_default();
        let taken = self.report.accepted.as_ref().is_some_and(|(sent, kept)| *sent == new && kept == known);
        let patch = if taken { None } else { push::difference(known, &new) };
        self.state.reported = patch.is_none() && self.report.sent.is_none();
        if self.report.computed.as_ref() != Some(&status) {
            let mut pod = Pod::clone(&self.pod);
            pod.status = Some(status.clone());
            self.pod = pod.into();
            self.report.computed = Some(status);
        }
        let waits = self.report.retry.is_some() || self.report.sent.is_some();
        if let Some(patch) = patch.filter(|_| !waits) {
            self.report.sent = Some(new);
            self.send(&patch);
        }
    }

    fn send(&mut self, patch: &Value) {
        let body = json!({"metadata": {"uid": self.report.uid}, "status": patch}).to_string();
        let target = Target::new(&Pod::GVR, pod::namespace(&self.pod), pod::name(&self.pod)).sub("status");
        let (client, tell) = (self.ctx.client.clone(), self.tell.clone());
        self.jobs.spawn(async move {
            let options = WriteOptions::default();
            let answer = client.patch(&target, PatchKind::Strategic, body.into(), &options).await;
            let _ = tell.send(News::Reported(answer)).await;
        });
    }

    pub(super) fn reported(&mut self, answer: Result<Object, Status>, now: Timestamp) {
        let sent = self.report.sent.take();
        match answer {
            Ok(object) => {
                self.report.accepted = sent.map(|sent| (sent, told(&object)));
                self.report.seen(&object);
            }
            // The watch tells of its removal.
            Err(status) if status.code == 404 => {
                let known = self.report.known.as_ref().map(|(_, known)| known.clone());
                self.report.accepted = sent.zip(known);
            }
            Err(status) => {
                tracing::warn!(pod = pod::full_name(&self.pod), %status, "cannot write a pod's status");
                self.report.retry = now.saturating_add(RETRY).ok();
            }
        }
    }
}
