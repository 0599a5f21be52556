//! Watches: each is a position in history that moves forward, and a bell.
//!
//! A watcher pulls; nothing is pushed at it, so there is no buffer to overflow and a slow one costs nothing but its
//! own place. Its **cursor** says: everything up to here was delivered or did not concern it. The writer, after
//! each commit, looks at every watcher: one that is waiting and not concerned is moved forward on the spot; one
//! that is concerned is marked **behind** and its bell rung. A watcher that is behind reads from the cursor on,
//! from the history in memory or, older than that, from the disk, until compaction overtakes it: then it ends with
//! [`Error::Compacted`]. So there is no gap, no duplicate, and nothing to lose between history and live events.

use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::core::{Core, State};
use super::disk::{Rows, Snapshot};
use super::history::History;
use super::index::{Change, RowId, Shared};
use super::read::blocking;
use crate::{Error, Event, Revision, Watch, WatchBatch, WatchFrom};

/// A batch ends after the revision that reaches so many events.
const BATCH_EVENTS: usize = 1024;
/// At most so many revisions are looked through at a time while the state is locked.
const SCAN_REVISIONS: usize = 4096;
/// A batch from the disk ends after the revision that reaches so many bytes of values.
const BATCH_BYTES: usize = 4 << 20;

/// All running watches.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Vec<Arc<Watcher>>>);

struct Watcher {
    from: WatchFrom,
    position: Mutex<Position>,
    bell: Notify,
}

struct Position {
    cursor: Revision,
    /// There may be something to deliver after the cursor.
    behind: bool,
    /// A progress report was asked for.
    progress: bool,
}

impl Watcher {
    /// Hears of new revisions, after they are published.
    fn announce(&self, revised: &[Shared]) {
        let mut position = self.position.lock();
        if position.behind {
            return;
        }
        let concerned =
            |revised: &Shared| revised.changes.iter().any(|change| self.wants(change.key.as_bytes()));
        let cursor = position.cursor;
        if revised.iter().any(|revised| revised.revision > cursor && concerned(revised)) {
            position.behind = true;
            self.bell.notify_one();
        } else if let Some(last) = revised.last() {
            position.cursor = cursor.max(last.revision);
            if position.progress {
                self.bell.notify_one();
            }
        }
    }

    fn wants(&self, key: &[u8]) -> bool {
        self.from.span.contains(key)
    }
}

impl Watchers {
    /// Tells every watcher of new revisions.
    pub fn announce(&self, revised: &[Shared]) {
        if !revised.is_empty() {
            self.0.lock().iter().for_each(|watcher| watcher.announce(revised));
        }
    }

    /// Asks every watcher for a progress report.
    pub fn request_progress(&self) {
        for watcher in self.0.lock().iter() {
            watcher.position.lock().progress = true;
            watcher.bell.notify_one();
        }
    }

    /// Makes every watcher look again.
    pub fn wake_all(&self) {
        self.0.lock().iter().for_each(|watcher| watcher.bell.notify_one());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Begins a watch.
pub(super) fn start(core: &Arc<Core>, from: WatchFrom) -> Result<Watch, Error> {
    // Registered while the state is locked: what is published later is announced, what was before is behind.
    let state = core.state.read();
    let cursor = match from.revision {
        0 => state.index.revision,
        first => first - 1,
    };
    readable(&state, cursor + 1)?;
    let behind = cursor < state.index.revision;
    let position = Mutex::new(Position { cursor, behind, progress: false });
    let watcher = Arc::new(Watcher { from, position, bell: Notify::new() });
    core.watchers.0.lock().push(watcher.clone());
    let running = Running { core: core.clone(), watcher };
    // An error is the last item.
    let batches = futures::stream::try_unfold(running, |mut running| async move {
        let batch = running.next().await?;
        Ok(Some((batch, running)))
    });
    Ok(batches.boxed())
}

/// Whether the events from `first` on are all there. What the store forgot by itself, to save space, may still be in
/// memory.
fn readable(state: &State, first: Revision) -> Result<(), Error> {
    let in_memory = || first >= state.forgotten && state.history.since(first).is_some();
    if first >= state.index.compacted || in_memory() { Ok(()) } else { Err(gone(state, first)) }
}

fn gone(state: &State, first: Revision) -> Error {
    Error::Compacted { requested: first, at: state.index.compacted }
}

struct Running {
    core: Arc<Core>,
    watcher: Arc<Watcher>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.watchers.0.lock().retain(|other| !Arc::ptr_eq(other, &self.watcher));
    }
}

/// Events, with the rows they replaced if those are still to be read.
type Found = Vec<(Event, Option<RowId>)>;

/// What there is to deliver.
enum Next {
    /// Nothing: wait for the bell.
    Wait,
    /// Nothing, but say so.
    Progress(Revision),
    /// These events, which cover everything up to a revision; a snapshot if something is still to be read.
    Memory(Found, Revision, Option<Snapshot>),
    /// What a snapshot holds between two revisions.
    Disk(Snapshot, Revision, Revision),
}

impl Running {
    async fn next(&mut self) -> Result<WatchBatch, Error> {
        loop {
            let (events, revision) = match self.look()? {
                Next::Wait => {
                    self.watcher.bell.notified().await;
                    continue;
                }
                Next::Progress(revision) => return Ok(WatchBatch { revision, events: Vec::new() }),
                Next::Memory(found, revision, None) => (without_previous(found), revision),
                Next::Memory(found, revision, Some(snapshot)) => {
                    (blocking(move || with_previous(found, &snapshot.rows()?)).await?, revision)
                }
                Next::Disk(snapshot, from, to) => {
                    let wanted = self.watcher.from.clone();
                    blocking(move || read_disk(&snapshot, &wanted, from, to)).await?
                }
            };
            self.advance(revision);
            if !events.is_empty() {
                return Ok(WatchBatch { revision, events });
            }
        }
    }

    fn advance(&self, revision: Revision) {
        let mut position = self.watcher.position.lock();
        // The writer may have moved it further meanwhile, past what did not concern this watch.
        position.cursor = position.cursor.max(revision);
    }

    /// Looks what there is after the cursor, with the state locked.
    fn look(&self) -> Result<Next, Error> {
        let state = self.core.state.read();
        let mut position = self.watcher.position.lock();
        let (cursor, latest) = (position.cursor, state.index.revision);
        if let Some(reason) = &state.stopped {
            return Err(reason.clone());
        }
        if cursor >= latest {
            position.behind = false;
            // A watch of the future has no progress to report before its beginning.
            let asked = cursor == latest && std::mem::take(&mut position.progress);
            return Ok(if asked { Next::Progress(latest) } else { Next::Wait });
        }
        readable(&state, cursor + 1)?;
        match state.history.since(cursor + 1) {
            Some(since) => {
                let (found, revision) = self.scan(&state.history, since, cursor);
                let snapshot = match found.iter().any(|(_, missing)| missing.is_some()) {
                    // On the disk, what was replaced is there no longer than what may be read.
                    true if cursor + 1 < state.index.compacted => return Err(gone(&state, cursor + 1)),
                    true => Some(self.core.snapshot(&state)?),
                    false => None,
                };
                Ok(Next::Memory(found, revision, snapshot))
            }
            None => Ok(Next::Disk(self.core.snapshot(&state)?, cursor + 1, latest)),
        }
    }

    fn scan<'a>(
        &self,
        history: &History,
        since: impl Iterator<Item = &'a Shared>,
        cursor: Revision,
    ) -> (Found, Revision) {
        let (mut found, mut revision) = (Vec::new(), cursor);
        for revised in since.take(SCAN_REVISIONS) {
            revision = revised.revision;
            let wanted = revised.changes.iter().filter(|change| self.watcher.wants(change.key.as_bytes()));
            found.extend(wanted.map(|change| match self.watcher.from.previous {
                true => event_with_previous(change, history),
                false => (change.event(), None),
            }));
            if found.len() >= BATCH_EVENTS {
                break;
            }
        }
        (found, revision)
    }
}

/// An event with what it replaced, or (if that is not in memory) where that is.
fn event_with_previous(change: &Change, history: &History) -> (Event, Option<RowId>) {
    let mut event = change.event();
    let Some(before) = change.before else { return (event, None) };
    let Some(value) = history.value(before.row()) else { return (event, Some(before.row())) };
    let (Event::Put { previous, .. } | Event::Delete { previous, .. }) = &mut event;
    *previous = Some(before.key_value(change.key.clone(), value));
    (event, None)
}

fn without_previous(found: Found) -> Vec<Event> {
    found.into_iter().map(|(event, _)| event).collect()
}

/// Reads what the events replaced, as far as it is still there.
fn with_previous(found: Found, rows: &Rows) -> Result<Vec<Event>, Error> {
    let fill = |(mut event, row): (Event, Option<RowId>)| {
        let Some(row) = row else { return Ok(event) };
        let replaced = rows.get(row)?;
        let (Event::Put { previous, .. } | Event::Delete { previous, .. }) = &mut event;
        *previous = replaced.and_then(|row| row.into_key_value());
        Ok(event)
    };
    found.into_iter().map(fill).collect()
}

/// Reads whole revisions of old events from the disk, and tells how far it came.
fn read_disk(
    snapshot: &Snapshot,
    wanted: &WatchFrom,
    from: Revision,
    to: Revision,
) -> Result<(Vec<Event>, Revision), Error> {
    let rows = snapshot.rows()?;
    let (mut found, mut bytes, mut revision) = (Vec::new(), 0, to);
    for item in rows.between(from, to)? {
        let (at, row) = item?;
        if at.sub == 0 && (found.len() >= BATCH_EVENTS || bytes >= BATCH_BYTES) {
            revision = at.revision - 1;
            break;
        }
        if wanted.span.contains(row.key.as_bytes()) {
            bytes += row.after.as_ref().map_or(0, |(_, value)| value.len());
            let previous = row.previous.map(|replaced| replaced.at);
            found.push((row.into_event(at), previous));
        }
    }
    let events = if wanted.previous { with_previous(found, &rows)? } else { without_previous(found) };
    Ok((events, revision))
}
