//! Changes of files and directories, told by the kernel.
//!
//! One queue of the kernel serves all that is watched: a user may have few of them (128 on most machines, for all programs
//! together), but very many watches in each.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// What happened to a watched file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// It has another name.
    pub(crate) moved: bool,
    /// A writer closed it.
    pub(crate) closed: bool,
    /// It is removed: nothing more will be told of it.
    pub(crate) gone: bool,
}

/// All that is watched. The kernel's queue is opened by the first use, or by a later one where that failed.
#[derive(Default)]
pub(crate) struct Watches(Mutex<Option<Running>>);

struct Running {
    queue: Arc<Queue>,
    _task: AbortOnDropHandle<()>,
}

struct Queue {
    fd: AsyncFd<OwnedFd>,
    /// By the kernel's number of what is watched: everyone who watches it.
    watched: Mutex<HashMap<i32, Vec<Arc<Told>>>>,
}

/// What one watcher has not looked at yet.
#[derive(Default)]
struct Told {
    changes: Mutex<Option<Changes>>,
    more: Notify,
}

/// A watched file or directory.
pub(crate) struct Watch {
    queue: Arc<Queue>,
    number: i32,
    told: Arc<Told>,
}

impl Watches {
    /// Watches an open file, whatever its name is by now: whether it grows, is closed by its writer, or is moved.
    pub(crate) fn file(&self, file: &impl AsRawFd) -> io::Result<Watch> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.watch(Path::new(&link), WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVE_SELF)
    }

    /// Watches a directory: which files are written, moved or removed.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<Watch> {
        let moved = WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::MOVE_SELF;
        let removed = WatchFlags::DELETE | WatchFlags::DELETE_SELF;
        self.watch(path, WatchFlags::CLOSE_WRITE | moved | removed | WatchFlags::ONLYDIR)
    }

    fn watch(&self, path: &Path, what: WatchFlags) -> io::Result<Watch> {
        let queue = self.queue()?;
        let told = Arc::<Told>::default();
        let mut watched = queue.watched.lock();
        // Held meanwhile, so that nothing is told before somebody is there to hear it. Others who watch the same file
        // want to hear what they asked for, too.
        let number = inotify::add_watch(queue.fd.get_ref(), path, what | WatchFlags::MASK_ADD)?;
        watched.entry(number).or_default().push(told.clone());
        drop(watched);
        Ok(Watch { queue, number, told })
    }

    fn queue(&self) -> io::Result<Arc<Queue>> {
        let mut running = self.0.lock();
        if let Some(running) = running.as_ref() {
            return Ok(running.queue.clone());
        }
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let queue = Arc::new(Queue { fd: registered(fd)?, watched: Mutex::default() });
        let task = AbortOnDropHandle::new(tokio::spawn(read(queue.clone())));
        *running = Some(Running { queue: queue.clone(), _task: task });
        Ok(queue)
    }
}

/// Tells the watchers what the kernel tells, until the task is dropped.
async fn read(queue: Arc<Queue>) {
    loop {
        let Ok(mut guard) = queue.fd.readable().await else { return };
        if let Err(error) = queue.drain() {
            tracing::warn!(%error, "cannot read which files have changed");
        }
        guard.clear_ready();
    }
}

impl Queue {
    /// Takes in all that the kernel has.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => self.tell(event.wd(), event.events()),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self, number: i32, what: ReadFlags) {
        let seen = Changes {
            moved: what.contains(ReadFlags::MOVE_SELF),
            closed: what.contains(ReadFlags::CLOSE_WRITE),
            gone: what.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF),
        };
        let watched = self.watched.lock();
        // What did not fit into the kernel's queue may have been about anything.
        let lost = what.contains(ReadFlags::QUEUE_OVERFLOW);
        let about = |(of, _): &(&i32, &Vec<Arc<Told>>)| lost || **of == number;
        for told in watched.iter().filter(about).flat_map(|(_, all)| all) {
            told.add(seen);
        }
    }
}

impl Told {
    fn add(&self, seen: Changes) {
        let mut changes = self.changes.lock();
        let before = changes.unwrap_or_default();
        *changes = Some(Changes {
            moved: before.moved || seen.moved,
            closed: before.closed || seen.closed,
            gone: before.gone || seen.gone,
        });
        self.more.notify_one();
    }
}

impl Watch {
    /// Waits for changes, and takes in all that are there.
    pub(crate) async fn changed(&self) -> Changes {
        loop {
            if let Some(changes) = self.told.changes.lock().take() {
                return changes;
            }
            self.told.more.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.queue.watched.lock();
        let Some(all) = watched.get_mut(&self.number) else { return };
        all.retain(|told| !Arc::ptr_eq(told, &self.told));
        if all.is_empty() {
            watched.remove(&self.number);
            // Fails where the file has gone, and the watch with it.
            let _ = inotify::remove_watch(self.queue.fd.get_ref(), self.number);
        }
    }
}

#[allow(
    deprecated,
    reason = "its replacement is unsafe for types that may lie about their descriptor; OwnedFd cannot"
)]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn everyone_who_watches_hears_of_the_same_change() {
        let dir = tempfile::tempdir().unwrap();
        let (watches, log) = (Watches::default(), dir.path().join("log"));
        let file = fs::File::create(&log).unwrap();
        let (one, other) = (watches.file(&file).unwrap(), watches.file(&file).unwrap());
        let whole = watches.directory(dir.path()).unwrap();
        fs::rename(&log, dir.path().join("aside")).unwrap();
        drop(file);
        for watch in [&one, &other] {
            let mut seen = Changes::default();
            while !(seen.moved && seen.closed) {
                let more = watch.changed().await;
                seen = Changes {
                    moved: seen.moved || more.moved,
                    closed: seen.closed || more.closed,
                    gone: false,
                };
            }
        }
        assert!(!whole.changed().await.gone);
        drop(one);
        fs::write(dir.path().join("aside"), "more").unwrap();
        assert!(other.changed().await.closed, "it is watched as long as somebody does");
        dir.close().unwrap();
        while !whole.changed().await.gone {}
    }
}
