//! Changes of files and directories, told by the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// A watched file or directory.
pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches a file: whether it grows, is closed by its writer, or is moved or removed.
    pub(crate) fn file(path: &Path) -> io::Result<Self> {
        let moved = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        Self::new(path, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | moved)
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

    /// Waits for changes, and takes in all that are there. Whether the watched thing itself was moved or removed.
    pub(crate) async fn changed(&self) -> io::Result<bool> {
        let mut guard = self.0.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        let mut moved = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    moved |= event.events().intersects(ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF)
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        guard.clear_ready();
        Ok(moved)
    }
}

#[allow(
    deprecated,
    reason = "its replacement is unsafe for types that may lie about their descriptor; OwnedFd cannot"
)]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
