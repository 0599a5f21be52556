//! A disk with the three files of a store, which can lose power, fail, and be full.
//!
//! Writes go to a cache and reach the platter only on sync. A power failure keeps what was synced, and of the rest an
//! arbitrary part: any of the writes, in any order of arrival, each whole or torn between two sectors.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::Random;
use crate::embedded::{Files, LogFile, Opener, Room, make_log};

/// Little, so that the database takes it over often.
const LOG_BYTES: usize = 8 << 10;
const SECTOR: usize = 512;

/// Called with each write or sync that begins.
type Hook = Box<dyn FnMut(&Content) + Send>;

/// The database and the log's segments.
const FILES: usize = 3;

/// What is on the platter and in the cache.
#[derive(Default)]
pub(super) struct Content {
    files: [Kept; FILES],
    /// No sync of these succeeds.
    failing: [bool; FILES],
    /// No file may get longer than this.
    room: Option<usize>,
    /// What the disk says is free.
    free: Option<u64>,
    delay: Duration,
    syncs: usize,
}

/// One file.
#[derive(Default)]
struct Kept {
    /// As the program sees it.
    cached: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
}

impl Kept {
    fn of(bytes: Vec<u8>) -> Self {
        Self { cached: bytes.clone(), synced: bytes, unsynced: Vec::new() }
    }

    fn after_power_failure(&self, random: &mut Random) -> Self {
        let mut bytes = self.synced.clone();
        for write in &self.unsynced {
            match write {
                Write::Length(length) if random.below(2) == 0 => bytes.resize(*length, 0),
                Write::At(offset, data) if random.below(2) == 0 => tear(&mut bytes, *offset, data, random),
                _ => {}
            }
        }
        Self::of(bytes)
    }

    fn sync(&mut self) {
        for write in std::mem::take(&mut self.unsynced) {
            match write {
                Write::Length(length) => self.synced.resize(length, 0),
                Write::At(offset, data) => store(&mut self.synced, offset, &data),
            }
        }
    }
}

enum Write {
    At(usize, Vec<u8>),
    Length(usize),
}

/// See the module. Clones share the disk.
#[derive(Clone, Default)]
pub(super) struct Medium {
    content: Arc<Mutex<Content>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Medium")
    }
}

impl Content {
    fn check_room(&self, end: usize) -> io::Result<()> {
        match self.room {
            Some(room) if end > room => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// The disk after a power failure at this moment.
    pub fn after_power_failure(&self, random: &mut Random) -> Medium {
        Medium::holding(self.files.each_ref().map(|file| file.after_power_failure(random)))
    }
}

/// Writes some sectors of `data`, mostly all.
fn tear(bytes: &mut Vec<u8>, offset: usize, data: &[u8], random: &mut Random) {
    let whole = random.below(3) > 0;
    for (sector, part) in data.chunks(SECTOR).enumerate() {
        if whole || random.below(2) == 0 {
            store(bytes, offset + sector * SECTOR, part);
        }
    }
}

fn store(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl Medium {
    fn holding(files: [Kept; FILES]) -> Self {
        let content = Content { files, ..Content::default() };
        Self { content: Arc::new(Mutex::new(content)), ..Self::default() }
    }

    /// What a store is made on. The log is made, unless it was there.
    pub fn parts(&self) -> Files {
        let logs = [1, 2].map(|number| {
            let log = FileOf { medium: self.clone(), number };
            if self.content.lock().files[number].synced.is_empty() {
                make_log(&log, LOG_BYTES).unwrap();
            }
            Box::new(log) as LogFile
        });
        let (medium, content) = (self.clone(), self.content.clone());
        let database: Opener = Box::new(move || Ok(Box::new(FileOf { medium: medium.clone(), number: 0 })));
        Files { database, logs, room: Room::new(move || content.lock().free.unwrap_or(u64::MAX)) }
    }

    /// From now on the disk says that so many bytes are free.
    pub fn leave_free(&self, bytes: u64) {
        self.content.lock().free = Some(bytes);
    }

    /// Calls `hook` with each write or sync that begins.
    pub fn on_write(&self, hook: impl FnMut(&Content) + Send + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    /// From now on no sync succeeds.
    pub fn fail(&self) {
        self.content.lock().failing = [true; FILES];
    }

    /// From now on no sync of the database succeeds.
    pub fn fail_database(&self) {
        self.content.lock().failing[0] = true;
    }

    /// From now on the disk holds no more than it does now.
    pub fn fill(&self) {
        let mut content = self.content.lock();
        content.room = content.files.iter().map(|file| file.cached.len()).max();
    }

    /// From now on there is room again.
    pub fn empty(&self) {
        let mut content = self.content.lock();
        (content.room, content.free) = (None, None);
    }

    /// From now on each sync takes so long.
    pub fn slow_down(&self, sync: Duration) {
        self.content.lock().delay = sync;
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> usize {
        self.content.lock().syncs
    }

    /// A power failure: from now on no sync succeeds here. Answers the disk as it comes back.
    pub fn kill(&self, random: &mut Random) -> Medium {
        let mut content = self.content.lock();
        content.failing = [true; FILES];
        content.after_power_failure(random)
    }

    /// The disk after a power failure at this moment; it works again.
    pub fn after_power_failure(&self, random: &mut Random) -> Medium {
        self.content.lock().after_power_failure(random)
    }

    /// The disk after a power failure at this moment that took everything that was not synced.
    pub fn without_what_is_not_synced(&self) -> Medium {
        Self::holding(self.content.lock().files.each_ref().map(|file| Kept::of(file.synced.clone())))
    }

    fn changed(&self) {
        if let Some(hook) = self.hook.lock().as_mut() {
            hook(&self.content.lock());
        }
    }
}

/// One of the files.
#[derive(Debug)]
pub(super) struct FileOf {
    medium: Medium,
    number: usize,
}

impl StorageBackend for FileOf {
    fn len(&self) -> io::Result<u64> {
        Ok(self.medium.content.lock().files[self.number].cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let content = self.medium.content.lock();
        let found = content.files[self.number].cached.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.medium.changed();
        let mut content = self.medium.content.lock();
        content.check_room(len as usize)?;
        let file = &mut content.files[self.number];
        file.cached.resize(len as usize, 0);
        file.unsynced.push(Write::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.medium.changed();
        let delay = self.medium.content.lock().delay;
        if !delay.is_zero() {
            let until = std::time::Instant::now() + delay;
            while std::time::Instant::now() < until {
                std::thread::yield_now();
            }
        }
        let mut content = self.medium.content.lock();
        if content.failing[self.number] {
            return Err(io::Error::other("the disk is broken"));
        }
        content.syncs += 1;
        content.files[self.number].sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.medium.changed();
        let mut content = self.medium.content.lock();
        content.check_room(offset as usize + data.len())?;
        let file = &mut content.files[self.number];
        store(&mut file.cached, offset as usize, data);
        file.unsynced.push(Write::At(offset as usize, data.to_vec()));
        Ok(())
    }
}
