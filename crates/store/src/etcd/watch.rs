//! Watches that outlive their connections.
//!
//! A watch is a **cursor** (everything up to here was delivered) and, while there is one, a gRPC stream that delivers
//! from there on. Whatever ends the stream, another is opened after the cursor, at the member that is spoken to then;
//! what comes twice is dropped. So a consumer sees every event once, in order, or an error: never a gap.
//!
//! Two habits of older etcd servers would break that, and are worked around:
//!
//! - **Progress ahead of events.** Before 3.4.25 and 3.5.8 a progress report may overtake events that are still under
//!   way. At such servers nobody asks for one: the watch covers all keys, so that every revision is an event, and its own
//!   cursor is the report.
//! - **Deletions at the compacted revision** may be gone although the revision itself can be watched from. So a watch
//!   must begin after it: each opened stream is checked by a read just before its first revision.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc;
use tokio::sync::watch;
use tonic::{Status, Streaming};

use super::convert;
use super::members::{Failure, Kind, patience};
use super::messages::{self as m, WatchAsk, WatchRequest, WatchResponse};
use super::{Inner, PROBE};
use crate::{Error, Event, Range, Revision, Span, Watch, WatchBatch, WatchFrom};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// How long a server may take to say that it has a new watch.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// Words to the server that wait to be sent; they are few.
const WORDS: usize = 8;

/// A wish for a progress report: its number, and the revision that it must reach (0 = the server knows).
pub(super) type Asked = (u64, Revision);

/// Begins a watch; answers once the server has it.
pub(super) async fn start(inner: &Arc<Inner>, from: WatchFrom) -> Result<Watch, Error> {
    let mut running = Running {
        inner: inner.clone(),
        cursor: from.revision.checked_sub(1),
        from,
        open: None,
        moves: inner.members.moves(),
        asked: inner.asked.subscribe(),
        target: None,
    };
    running.open(patience()).await?;
    // An error is the last item.
    let batches = futures::stream::try_unfold(running, |mut running| async move {
        let batch = running.next().await?;
        Ok(Some((batch, running)))
    });
    Ok(batches.boxed())
}

struct Running {
    inner: Arc<Inner>,
    from: WatchFrom,
    /// None until the server has told where the present is.
    cursor: Option<Revision>,
    open: Option<Open>,
    moves: watch::Receiver<usize>,
    asked: watch::Receiver<Asked>,
    /// A report is owed once the cursor is here.
    target: Option<Revision>,
}

/// A stream, and what is known of the server behind it.
struct Open {
    words: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    at: usize,
    /// Whether its progress reports can be believed.
    reports: bool,
}

/// What happened on an open stream.
enum Heard {
    Answer(Result<Option<WatchResponse>, Status>),
    /// The member is no longer the one spoken to.
    Moved,
    Asked(Asked),
}

impl Running {
    async fn next(&mut self) -> Result<WatchBatch, Error> {
        loop {
            if let Some(revision) = self.report() {
                return Ok(WatchBatch { revision, events: Vec::new() });
            }
            let heard = match &mut self.open {
                Some(open) => tokio::select! {
                    answer = open.answers.message() => Heard::Answer(answer),
                    Ok(()) = self.moves.changed() => Heard::Moved,
                    Ok(()) = self.asked.changed() => Heard::Asked(*self.asked.borrow_and_update()),
                },
                None => {
                    self.open(None).await?;
                    continue;
                }
            };
            if let Some(batch) = self.hear(heard).await? {
                return Ok(batch);
            }
        }
    }

    /// The report that is owed, if the cursor is there.
    fn report(&mut self) -> Option<Revision> {
        let cursor = self.cursor?;
        self.target.take_if(|target| *target <= cursor).map(|_| cursor)
    }

    async fn hear(&mut self, heard: Heard) -> Result<Option<WatchBatch>, Error> {
        match heard {
            Heard::Answer(Ok(Some(answer))) => self.take(answer),
            Heard::Answer(Ok(None)) => {
                self.open = None;
                Ok(None)
            }
            Heard::Answer(Err(status)) => {
                let at = self.open.take().map_or(0, |open| open.at);
                self.inner.members.after(at, status, Kind::Read, None).await?;
                Ok(None)
            }
            Heard::Moved => {
                self.open = None;
                Ok(None)
            }
            Heard::Asked((_, revision)) => {
                self.ask(revision);
                Ok(None)
            }
        }
    }

    /// Passes a wish for a report on, or notes what it needs.
    fn ask(&mut self, revision: Revision) {
        match &mut self.open {
            Some(open) if open.reports => {
                let progress = WatchAsk::Progress(m::WatchProgressRequest {});
                // A full queue holds such a wish already.
                let _ = open.words.try_send(WatchRequest { request_union: Some(progress) });
            }
            _ => self.target = Some(revision),
        }
    }

    /// A batch from an answer, if it brings one.
    fn take(&mut self, answer: WatchResponse) -> Result<Option<WatchBatch>, Error> {
        let cursor = self.cursor.unwrap_or_default();
        if answer.canceled {
            return self.canceled(&answer).map(|()| None);
        }
        if answer.created {
            return Ok(None);
        }
        let Some(last) = answer.events.last().and_then(|event| event.kv.as_ref()) else {
            let revision = convert::revision(answer.header.as_ref());
            let believed = self.open.as_ref().is_some_and(|open| open.reports) && revision >= cursor;
            self.cursor = Some(if believed { revision } else { cursor });
            return Ok(believed.then(|| WatchBatch { revision, events: Vec::new() }));
        };
        let revision = convert::unsigned(last.mod_revision);
        if revision <= cursor {
            return Ok(None);
        }
        self.cursor = Some(revision);
        let events = answer.events.into_iter().filter_map(convert::event);
        let wanted =
            |event: &Event| event.revision() > cursor && self.from.span.contains(event.key().as_bytes());
        let events: Vec<Event> = events.filter(wanted).collect();
        Ok((!events.is_empty()).then_some(WatchBatch { revision, events }))
    }

    /// What it means that the server ended the watch: the end, or another try.
    fn canceled(&mut self, answer: &WatchResponse) -> Result<(), Error> {
        if answer.compact_revision != 0 {
            let requested = self.cursor.map_or(0, |cursor| cursor + 1);
            return Err(Error::Compacted { requested, at: convert::unsigned(answer.compact_revision) });
        }
        if answer.cancel_reason.contains("permission denied") {
            return Err(Error::Refused(answer.cancel_reason.as_str().into()));
        }
        self.open = None;
        Ok(())
    }

    /// Opens a stream after the cursor; tries until it succeeds, `give_up`, or an answer that no other try changes.
    async fn open(&mut self, give_up: Option<Instant>) -> Result<(), Error> {
        loop {
            match self.try_open().await {
                Ok(Ok(open)) => {
                    self.moves.borrow_and_update();
                    let stays = *self.moves.borrow() == open.at;
                    self.open = stays.then_some(open);
                    return Ok(());
                }
                Ok(Err((at, status))) => {
                    self.inner.members.after(at, status, Kind::Read, give_up).await?;
                }
                // That call has waited already.
                Err(Error::Unavailable(_)) if give_up.is_none() => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_open(&mut self) -> Result<Result<Open, (usize, Status)>, Error> {
        let reports = self.inner.reports_progress().await?;
        let (mut words, said) = mpsc::channel(WORDS);
        let create = WatchRequest { request_union: Some(WatchAsk::Create(self.create(reports))) };
        // The queue is new and empty.
        let _ = words.try_send(create);
        let (at, opened) = self.inner.members.stream(WATCH, said).await;
        let mut answers = match opened {
            Ok(answers) => answers,
            Err(status) => return Ok(Err((at, status))),
        };
        let first = match first(&mut answers).await {
            Ok(first) => first,
            Err(status) => return Ok(Err((at, status))),
        };
        if first.canceled {
            self.canceled(&first)?;
            return Ok(Err((at, Status::unavailable(first.cancel_reason))));
        }
        self.cursor.get_or_insert(convert::revision(first.header.as_ref()));
        self.check().await?;
        Ok(Ok(Open { words, answers, at, reports }))
    }

    fn create(&self, reports: bool) -> m::WatchCreateRequest {
        let span = if reports { self.from.span.clone() } else { Span::prefix("") };
        let (key, range_end) = convert::ends(&span);
        m::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.cursor.map_or(0, |cursor| convert::signed(cursor + 1)),
            prev_kv: self.from.previous,
            ..m::WatchCreateRequest::default()
        }
    }

    /// Whether all that follows the cursor was still there when the server had the watch.
    async fn check(&self) -> Result<(), Error> {
        let Some(cursor) = self.cursor else { return Ok(()) };
        // Nothing is before revision 1, and 0 would be the present.
        let range = Range::key(PROBE).keys_only().at(cursor.max(1));
        match self.inner.try_range(&range).await {
            Err(Failure::Answer(status)) if super::is_compacted(&status) => {
                let at = self.inner.compacted().await?;
                Err(Error::Compacted { requested: cursor + 1, at })
            }
            Err(Failure::Lost(status)) => Err(Failure::Lost(status).into()),
            // A revision to come is no worry, and what else was refused the watch will tell.
            Err(Failure::Answer(_)) | Ok(_) => Ok(()),
        }
    }
}

/// What the server says first.
async fn first(answers: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    match tokio::time::timeout(FIRST_ANSWER, answers.message()).await {
        Ok(Ok(Some(first))) => Ok(first),
        Ok(Ok(None)) => Err(Status::unavailable("the stream ended")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("no answer to a new watch")),
    }
}
