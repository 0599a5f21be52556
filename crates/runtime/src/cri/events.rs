//! What happens in the runtime, as it happens.
//!
//! CRI has `GetContainerEvents` since v1.26 (containerd 1.7, CRI-O). containerd 1.6 answers it with `Unimplemented`;
//! its own event service on the same socket says the same things, and says the exit code too. Both become
//! [`Event`]s here, so that the kubelet never learns which one it was.

use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use tonic::Streaming;
use tonic_prost::ProstCodec;

use super::container_messages as c;
use super::messages as m;
use super::{Cri, chain, failure, path};
use crate::model::Event;
use crate::{Error, EventStream, Result};

/// Where containerd keeps CRI's containers.
const NAMESPACE: &str = "k8s.io";
/// A runtime that has the call but no event for now sends no headers; past this it is taken to have the call.
const HEADERS: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    /// The process: the container's own identifier for its main one, another for an exec.
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint32, tag = "4")]
    exit_status: u32,
    #[prost(message, optional, tag = "5")]
    exited_at: Option<Timestamp>,
}

pub(super) async fn subscribe(cri: &Cri) -> Result<EventStream> {
    match cri_events(cri).await {
        Err(Error::Unimplemented(_)) => containerd_events(cri).await,
        other => other,
    }
}

async fn call<Q, A>(cri: &Cri, method: &str, request: Q) -> Result<Streaming<A>>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = cri.grpc();
    grpc.ready().await.map_err(|e| Error::Unavailable(chain(&e)))?;
    let path = path("", method)?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.server_streaming(tonic::Request::new(request), path, codec).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
}

async fn cri_events(cri: &Cri) -> Result<EventStream> {
    const METHOD: &str = "/runtime.v1.RuntimeService/GetContainerEvents";
    open::<_, c::ContainerEventResponse>(cri.clone(), METHOD, m::Empty {}, from_cri).await
}

/// Subscribes. Refusals come at once; a server that has nothing to say yet keeps silent, headers included, so after
/// [`HEADERS`] the subscription counts as made and a late refusal becomes the stream's first item.
async fn open<Q, A>(
    cri: Cri,
    method: &'static str,
    request: Q,
    map: fn(&A) -> Vec<Event>,
) -> Result<EventStream>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut opening = Box::pin(async move { call::<Q, A>(&cri, method, request).await });
    match tokio::time::timeout(HEADERS, &mut opening).await {
        Ok(opened) => Ok(mapped(opened?, map)),
        Err(_) => Ok(futures::stream::once(opening)
            .flat_map(move |opened| match opened {
                Ok(stream) => mapped(stream, map),
                Err(error) => futures::stream::once(async { Err(error) }).boxed(),
            })
            .boxed()),
    }
}

fn mapped<A: Send + 'static>(stream: Streaming<A>, map: fn(&A) -> Vec<Event>) -> EventStream {
    stream
        .flat_map(move |item| {
            let events = match item {
                Ok(message) => map(&message).into_iter().map(Ok).collect(),
                Err(status) => vec![Err(failure(&status))],
            };
            futures::stream::iter(events)
        })
        .boxed()
}

fn from_cri(event: &c::ContainerEventResponse) -> Vec<Event> {
    let id = event.container_id.clone();
    let status = event.containers_statuses.iter().find(|status| status.id == id);
    match event.container_event_type {
        1 => vec![Event::Started { id }],
        2 => {
            let oom = status.is_some_and(|status| status.reason == "OOMKilled");
            let code = status.map_or(0, |status| status.exit_code);
            let at = status.map_or(event.created_at, |status| status.finished_at);
            let oom = oom.then(|| Event::OutOfMemory { id: id.clone() });
            oom.into_iter().chain([Event::Exited { id: id.clone(), code, at }]).collect()
        }
        3 => vec![Event::Deleted { id }],
        _ => Vec::new(),
    }
}

async fn containerd_events(cri: &Cri) -> Result<EventStream> {
    const METHOD: &str = "/containerd.services.events.v1.Events/Subscribe";
    const TOPICS: [&str; 4] = ["/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/delete"];
    let filters = TOPICS.iter().map(|topic| format!("namespace=={NAMESPACE},topic==\"{topic}\"")).collect();
    open(cri.clone(), METHOD, SubscribeRequest { filters }, from_containerd).await
}

fn from_containerd(envelope: &Envelope) -> Vec<Event> {
    let bytes = envelope.event.as_ref().map_or(&[][..], |event| &event.value);
    // Three of the four carry the container's identifier as field 1.
    let id = m::Id::decode(bytes).map(|message| message.id);
    let event = match (envelope.topic.as_str(), id) {
        ("/tasks/start", Ok(id)) => Some(Event::Started { id }),
        ("/tasks/oom", Ok(id)) => Some(Event::OutOfMemory { id }),
        ("/containers/delete", Ok(id)) => Some(Event::Deleted { id }),
        ("/tasks/exit", _) => TaskExit::decode(bytes).ok().and_then(|exit| exited(&exit, envelope.timestamp)),
        _ => None,
    };
    event.into_iter().collect()
}

fn exited(exit: &TaskExit, seen: Option<Timestamp>) -> Option<Event> {
    let at = exit.exited_at.or(seen).unwrap_or_default();
    (exit.id == exit.container_id).then(|| Event::Exited {
        id: exit.container_id.clone(),
        code: i32::try_from(exit.exit_status).unwrap_or(255),
        at: at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanos)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, message: &impl Message) -> Envelope {
        Envelope { timestamp: None, topic: topic.into(), event: Some(Any { value: message.encode_to_vec() }) }
    }

    #[test]
    fn the_main_process_ends_a_container_and_an_exec_does_not() {
        let at = Some(Timestamp { seconds: 2, nanos: 5 });
        let mut exit = TaskExit { container_id: "c".into(), id: "c".into(), exit_status: 137, exited_at: at };
        let event = from_containerd(&envelope("/tasks/exit", &exit));
        assert_eq!(event, [Event::Exited { id: "c".into(), code: 137, at: 2_000_000_005 }]);
        exit.id = "exec-1".into();
        assert_eq!(from_containerd(&envelope("/tasks/exit", &exit)), []);
    }

    #[test]
    fn cri_events_take_the_exit_code_from_the_statuses() {
        let status = c::ContainerStatus {
            id: "c".into(),
            exit_code: 3,
            finished_at: 9,
            ..c::ContainerStatus::default()
        };
        let event = c::ContainerEventResponse {
            container_id: "c".into(),
            container_event_type: 2,
            containers_statuses: vec![status],
            ..c::ContainerEventResponse::default()
        };
        assert_eq!(from_cri(&event), [Event::Exited { id: "c".into(), code: 3, at: 9 }]);
    }
}
