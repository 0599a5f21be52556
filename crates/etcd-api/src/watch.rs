//! `Watch`: many watches on one stream.
//!
//! Each watch is a task that passes the store's batches on into one queue, whose end is the answer's stream. The queue
//! is short: a slow client holds its watches back, which cost the store nothing but their place.
//!
//! A client may ask how far all its watches have come. The answer must not overtake an event, so it is put into the
//! same queue by the watch that comes there last ([`Progress`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tiphys_store::etcd::convert::{event_message, signed, span, unsigned};
use tiphys_store::etcd::messages::{
    EVENT_DELETE, EVENT_PUT, Event, WatchAsk, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tiphys_store::{Error, Revision, Watch, WatchBatch, WatchFrom};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::Api;
use crate::answer::{header, refusal};

/// Answers that wait for the client.
const QUEUE: usize = 16;
/// Watches of one stream.
const WATCHES_MOST: usize = 10_000;
/// An answer that may be split is split at so many bytes.
const FRAGMENT: usize = 3 << 19;
/// How often a watch that asked for it is told how far it has come, when nothing happens: etcd's default.
const NOTIFY: Duration = Duration::from_secs(600);
/// The number that stands for all watches of a stream.
const ALL: i64 = -1;

type Answers = mpsc::Sender<Result<WatchResponse, Status>>;

pub(crate) async fn watch(
    api: Arc<Api>,
    requests: Streaming<WatchRequest>,
) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + Send + 'static, Status> {
    let (answers, answered) = mpsc::channel(QUEUE);
    let progress = Arc::new(Mutex::new(Progress::default()));
    let client = Client {
        api,
        answers,
        progress,
        running: HashMap::new(),
        tasks: JoinSet::new(),
        next: 0,
        started: 0,
    };
    tokio::spawn(client.run(requests));
    Ok(futures::stream::unfold(answered, |mut answered| async move {
        answered.recv().await.map(|answer| (answer, answered))
    }))
}

/// How far the watches of a stream have come, and how far they were asked to.
#[derive(Default)]
struct Progress {
    /// By a number that no two watches share; a client's own may be used again.
    reached: HashMap<u64, Revision>,
    wanted: Option<Revision>,
}

impl Progress {
    /// The revision to report, if all are there now; where there is no watch, none is behind.
    fn due(&mut self) -> Option<Revision> {
        let behind = |wanted: &Revision| self.reached.values().any(|reached| reached < wanted);
        if self.wanted.as_ref().is_none_or(behind) {
            return None;
        }
        self.wanted.take()
    }

    /// A wish to know when all have come to a revision. Answers it if there is no watch that could.
    fn ask(&mut self, revision: Revision) -> Option<Revision> {
        self.wanted = Some(revision);
        if self.reached.is_empty() { self.wanted.take() } else { None }
    }

    /// A watch has ended. Answers the revision to report, if that was the last one behind.
    fn left(&mut self, number: u64) -> Option<Revision> {
        self.reached.remove(&number);
        self.due()
    }
}

/// One stream.
struct Client {
    api: Arc<Api>,
    answers: Answers,
    progress: Arc<Mutex<Progress>>,
    running: HashMap<i64, CancellationToken>,
    /// Ends with this. A task answers whose it was.
    tasks: JoinSet<(i64, CancellationToken)>,
    next: i64,
    /// How many watches were begun.
    started: u64,
}

impl Client {
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.answers.closed() => return,
                Some(ended) = self.tasks.join_next() => {
                    self.forget(ended.ok());
                    continue;
                }
            };
            let Ok(Some(WatchRequest { request_union: Some(ask) })) = request else { return };
            let heard = match ask {
                WatchAsk::Create(create) => self.create(create).await,
                WatchAsk::Cancel(cancel) => self.cancel(cancel.watch_id).await,
                WatchAsk::Progress(_) => self.ask_progress().await,
            };
            if let Err(status) = heard {
                // The client may be gone as well.
                let _ = self.answers.send(Err(status)).await;
                return;
            }
        }
    }

    async fn send(&self, answer: WatchResponse) -> Result<(), Status> {
        self.answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the client is gone"))
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Status> {
        let now = self.api.store.revision().await.map_err(refusal)?;
        let Some(id) = self.number(request.watch_id) else {
            return self.refuse(ALL, now, "etcdserver: duplicate watch ID, or too many watches").await;
        };
        if request.key.is_empty() && request.range_end.is_empty() {
            return self.refuse(id, now, "etcdserver: key is not provided").await;
        }
        // From the revision that is told on, so that the client can go on from there without a gap or a repetition.
        let first = if request.start_revision > 0 { unsigned(request.start_revision) } else { now + 1 };
        let from = WatchFrom::span(span(&request.key, &request.range_end), first);
        let from = if request.prev_kv { from.with_previous() } else { from };
        let opened = self.api.store.watch(from).await;
        self.send(WatchResponse { created: true, ..empty(id, now) }).await?;
        match opened {
            Ok(watch) => self.start(id, &request, watch, first),
            Err(error) => self.send(ended(id, now, &error).ok_or_else(|| refusal(error))?).await?,
        }
        Ok(())
    }

    /// The number of a new watch: the client's, or the next free one.
    fn number(&mut self, wanted: i64) -> Option<i64> {
        if self.running.len() >= WATCHES_MOST || (wanted != 0 && self.running.contains_key(&wanted)) {
            return None;
        }
        if wanted != 0 {
            return Some(wanted);
        }
        while self.running.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    async fn refuse(&self, id: i64, now: Revision, why: &str) -> Result<(), Status> {
        let refused =
            WatchResponse { created: true, canceled: true, cancel_reason: why.into(), ..empty(id, now) };
        self.send(refused).await
    }

    fn start(&mut self, id: i64, request: &WatchCreateRequest, watch: Watch, first: Revision) {
        let stop = CancellationToken::new();
        self.running.insert(id, stop.clone());
        self.started += 1;
        let number = self.started;
        self.progress.lock().reached.insert(number, first.saturating_sub(1));
        let task = Task {
            id,
            number,
            api: self.api.clone(),
            answers: self.answers.clone(),
            progress: self.progress.clone(),
            // 0 leaves out writes, 1 deletions.
            puts: !request.filters.contains(&0),
            deletes: !request.filters.contains(&1),
            fragment: request.fragment,
            notify: request.progress_notify,
        };
        let (progress, answers) = (self.progress.clone(), self.answers.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task.run(watch)).await;
            // The others may have waited for this one.
            let due = progress.lock().left(number);
            if let Some(revision) = due {
                let _ = answers.send(Ok(empty(ALL, revision))).await;
            }
            (id, stop)
        });
    }

    /// Gives the number of a watch up that has ended by itself. One that was cancelled has no number any more; another
    /// may have it.
    fn forget(&mut self, ended: Option<(i64, CancellationToken)>) {
        if let Some((id, _)) = ended.filter(|(_, stop)| !stop.is_cancelled()) {
            self.running.remove(&id);
        }
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Status> {
        let Some(stop) = self.running.remove(&id) else { return Ok(()) };
        stop.cancel();
        let now = self.api.store.revision().await.map_err(refusal)?;
        self.send(WatchResponse { canceled: true, ..empty(id, now) }).await
    }

    /// Notes the wish, and makes every watch that has delivered everything say so.
    async fn ask_progress(&self) -> Result<(), Status> {
        let now = self.api.store.revision().await.map_err(refusal)?;
        let due = self.progress.lock().ask(now);
        match due {
            Some(revision) => self.send(empty(ALL, revision)).await,
            None => self.api.store.request_progress().await.map_err(refusal),
        }
    }
}

/// One watch.
struct Task {
    id: i64,
    number: u64,
    api: Arc<Api>,
    answers: Answers,
    progress: Arc<Mutex<Progress>>,
    puts: bool,
    deletes: bool,
    fragment: bool,
    notify: bool,
}

impl Task {
    async fn run(self, mut watch: Watch) {
        let mut notify = tokio::time::interval(NOTIFY);
        notify.reset();
        let mut owed = false;
        loop {
            let batch = tokio::select! {
                batch = watch.next() => batch,
                _ = notify.tick(), if self.notify => {
                    owed = true;
                    // A store that fails tells so through the watch.
                    let _ = self.api.store.request_progress().await;
                    continue;
                }
            };
            let gone = match batch {
                Some(Ok(batch)) => self.pass(batch, &mut owed).await.is_err(),
                Some(Err(error)) => return self.end(error).await,
                None => true,
            };
            if gone {
                return;
            }
        }
    }

    /// Puts a batch into the queue; an error says that the client is gone.
    async fn pass(&self, batch: WatchBatch, owed: &mut bool) -> Result<(), Status> {
        let revision = batch.revision;
        let wanted = |event: &Event| match event.r#type {
            EVENT_PUT => self.puts,
            EVENT_DELETE => self.deletes,
            _ => true,
        };
        let report = batch.events.is_empty() && std::mem::take(owed);
        let events: Vec<Event> = batch.events.into_iter().map(event_message).filter(wanted).collect();
        let answer = WatchResponse { events, ..empty(self.id, revision) };
        if report || !answer.events.is_empty() {
            let parts = if self.fragment { fragments(answer) } else { vec![answer] };
            for part in parts {
                self.answers.send(Ok(part)).await.map_err(|_| Status::cancelled(""))?;
            }
        }
        let due = {
            let mut progress = self.progress.lock();
            progress.reached.insert(self.number, revision);
            progress.due()
        };
        match due {
            Some(revision) => {
                self.answers.send(Ok(empty(ALL, revision))).await.map_err(|_| Status::cancelled(""))
            }
            None => Ok(()),
        }
    }

    async fn end(&self, error: Error) {
        let revision = self.api.store.revision().await.unwrap_or_default();
        let answer = ended(self.id, revision, &error).ok_or_else(|| refusal(error));
        // Nobody is there to be told that the client is gone.
        let _ = self.answers.send(answer).await;
    }
}

/// An answer without events.
fn empty(id: i64, revision: Revision) -> WatchResponse {
    WatchResponse { header: header(revision), watch_id: id, ..WatchResponse::default() }
}

/// The last answer of a watch whose past was compacted; of other errors the whole stream ends.
fn ended(id: i64, revision: Revision, error: &Error) -> Option<WatchResponse> {
    let Error::Compacted { at, .. } = error else { return None };
    Some(WatchResponse { canceled: true, compact_revision: signed(*at), ..empty(id, revision) })
}

/// Splits a large answer; all parts but the last say that more follows.
fn fragments(answer: WatchResponse) -> Vec<WatchResponse> {
    let bare = WatchResponse { events: Vec::new(), ..answer.clone() };
    let (mut parts, mut bytes) = (vec![bare.clone()], 0);
    for event in answer.events {
        let size = event.encoded_len();
        if bytes > 0 && bytes + size > FRAGMENT {
            parts.iter_mut().last().into_iter().for_each(|part| part.fragment = true);
            parts.push(bare.clone());
            bytes = 0;
        }
        bytes += size;
        parts.iter_mut().last().into_iter().for_each(|part| part.events.push(event.clone()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_due_when_the_last_watch_is_there() {
        let mut progress = Progress { reached: HashMap::from([(0, 5), (1, 3)]), wanted: None };
        assert_eq!(progress.due(), None, "nobody asked");
        progress.wanted = Some(4);
        assert_eq!(progress.due(), None);
        progress.reached.insert(1, 9);
        assert_eq!((progress.due(), progress.due()), (Some(4), None));
        progress.wanted = Some(8);
        assert_eq!((progress.due(), progress.left(0)), (None, Some(8)));
        assert_eq!(progress.ask(12), None);
        assert_eq!((progress.left(1), progress.left(1)), (Some(12), None), "nobody is left to be waited for");
        assert_eq!((progress.ask(13), progress.due()), (Some(13), None));
    }

    #[test]
    fn large_answers_are_split_between_events() {
        let event = |bytes: usize| Event {
            kv: Some(tiphys_store::etcd::messages::KeyValue {
                value: vec![0; bytes].into(),
                ..Default::default()
            }),
            ..Event::default()
        };
        let answer = WatchResponse { events: vec![event(1 << 20), event(1 << 20), event(9)], ..empty(3, 7) };
        let parts = fragments(answer);
        let shape: Vec<_> =
            parts.iter().map(|part| (part.events.len(), part.fragment, part.watch_id)).collect();
        assert_eq!(shape, [(1, true, 3), (2, false, 3)]);
    }
}
