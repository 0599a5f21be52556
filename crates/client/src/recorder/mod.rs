//! Events: what components tell people about objects, as core/v1 `Event`s.
//!
//! - [`Recorder::event`] never waits and never fails: a bounded queue takes the event, and drops it when full.
//! - Equal events of an object become one with a count; many similar ones become one "combined"; an object that is
//!   talked about without end is rate-limited. The limits are client-go's (see [`correlate`]).

mod correlate;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tiphys_api::{Status, json};
use tokio::sync::mpsc;

use crate::typed::Api;
use crate::{Client, PatchKind};
use correlate::{Correlator, Decision, Note, Series};

const QUEUE: usize = 1000;
const TRIES: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Takes events of one component. Clones share one queue and one memory of what was told.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder that names `component` (and the node it runs on, or an empty host) as the source. Needs a tokio
    /// runtime: a task writes the events until the last clone is dropped.
    pub fn new(client: Arc<dyn Client>, component: &str, host: &str) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        let writer = Writer { client, component: component.to_owned(), host: host.to_owned() };
        tokio::spawn(writer.run(notes));
        Self { queue }
    }

    /// Tells something about an object. `kind` is `Normal` or `Warning`.
    pub fn event(&self, about: &ObjectReference, kind: &str, reason: &str, message: impl Into<String>) {
        let note = Note {
            about: about.clone(),
            kind: kind.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
            at: Timestamp::now(),
        };
        if self.queue.try_send(note).is_err() {
            tracing::debug!(reason, "the event queue is full, an event is dropped");
        }
    }
}

struct Writer {
    client: Arc<dyn Client>,
    component: String,
    host: String,
}

impl Writer {
    async fn run(self, mut notes: mpsc::Receiver<Note>) {
        let mut correlator = Correlator::default();
        while let Some(note) = notes.recv().await {
            let Decision::Write(note, series) = correlator.decide(note) else { continue };
            if let Err(status) = self.write(&note, &series).await {
                tracing::debug!(reason = note.reason, %status, "an event could not be written");
            }
        }
    }

    async fn write(&self, note: &Note, series: &Series) -> Result<(), Status> {
        let mut result = self.write_once(note, series).await;
        for _ in 1..TRIES {
            match &result {
                Err(status) if status.code >= 500 || status.code == 429 => {}
                _ => break,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            result = self.write_once(note, series).await;
        }
        result
    }

    async fn write_once(&self, note: &Note, series: &Series) -> Result<(), Status> {
        let api = Api::<Event>::new(self.client.clone(), namespace(note));
        if series.count > 1 {
            let patch = json!({
                "count": series.count,
                "lastTimestamp": Time(note.at),
                "message": note.message,
            });
            match api.patch(&series.name, PatchKind::Merge, &patch).await {
                Err(status) if status.is("NotFound") => {}
                other => return other.map(drop),
            }
        }
        api.create(&self.compose(note, series)).await.map(drop)
    }

    fn compose(&self, note: &Note, series: &Series) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(series.name.clone()),
                namespace: Some(namespace(note).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: note.about.clone(),
            type_: Some(note.kind.clone()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            count: Some(series.count),
            first_timestamp: Some(Time(series.first)),
            last_timestamp: Some(Time(note.at)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: Some(self.host.clone()).filter(|host| !host.is_empty()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        }
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(note: &Note) -> &str {
    match note.about.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => "default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeClient;
    use crate::typed::Kind;
    use k8s_openapi::api::core::v1::Pod;

    #[tokio::test(start_paused = true)]
    async fn equal_events_become_one_with_a_count() {
        let client = Arc::new(FakeClient::new());
        let recorder = Recorder::new(client.clone(), "kubelet", "node-1");
        let mut pod = Pod::default();
        pod.meta_mut().name = Some("web".into());
        pod.meta_mut().namespace = Some("shop".into());
        for _ in 0..3 {
            recorder.event(&pod.reference(), "Warning", "BackOff", "Back-off restarting");
        }
        recorder.event(&pod.reference(), "Normal", "Pulled", "Image is there");
        let api = Api::<Event>::new(client.clone(), "shop");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut told: Vec<_> = api.list(&Default::default()).await.unwrap();
        told.sort_by(|a, b| a.reason.cmp(&b.reason));
        let counts: Vec<_> = told.iter().map(|e| (e.reason.as_deref(), e.count)).collect();
        assert_eq!(counts, [(Some("BackOff"), Some(3)), (Some("Pulled"), Some(1))]);
        assert_eq!(told[0].source.as_ref().unwrap().host.as_deref(), Some("node-1"));
    }
}
