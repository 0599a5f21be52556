//! Changes of files and directories, told by the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// What happened to a watched file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// It has another name.
    pub(crate) moved: bool,
    /// A writer closed it.
    pub(crate) closed: bool,
}

/// A watched file or directory.
pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches an open file, whatever its name is by now: whether it grows, is closed by its writer, or is moved.
    pub(crate) fn file(file: &impl AsRawFd) -> io::Result<Self> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        Self::new(Path::new(&link), WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVE_SELF)
    }

    /// Watches a directory: which files are written, moved or removed.
    pub(crate) fn directory(path: &Path) -> io::Result<Self> {
        let moved = WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        Self::new(path, WatchFlags::CLOSE_WRITE | WatchFlags::DELETE | moved)
    }

    fn new(path: &Path, what: WatchFlags) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, path, what)?;
        registered(fd).map(Self)
    }

    /// Waits for changes, and takes in all that are there.
    pub(crate) async fn changed(&self) -> io::Result<Changes> {
        let mut guard = self.0.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        let mut changes = Changes::default();
        loop {
            match reader.next() {
                Ok(event) => {
                    changes.moved |= event.events().contains(ReadFlags::MOVE_SELF);
                    changes.closed |= event.events().contains(ReadFlags::CLOSE_WRITE);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        guard.clear_ready();
        Ok(changes)
    }
}

#[allow(
    deprecated,
    reason = "its replacement is unsafe for types that may lie about their descriptor; OwnedFd cannot"
)]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
