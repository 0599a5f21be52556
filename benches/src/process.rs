//! What a process costs, from /proc.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// /proc counts CPU time in these, on every architecture of Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A process.
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

/// Its memory, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// The part of it that no file backs.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Process {
    /// The process of this id.
    pub fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This one.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// CPU time used by all its threads so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |i: usize| fields.get(i).and_then(|field| field.parse::<u32>().ok()).context("/proc/PID/stat");
        Ok(TICK * (ticks(11)? + ticks(12)?))
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory> {
        let status = self.read("status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Memory { rss: field("VmRSS"), anonymous: field("RssAnon"), peak: field("VmHWM") })
    }

    /// Lets [`Memory::peak`] begin anew with what is resident now.
    pub fn forget_peak(&self) -> Result<()> {
        let path = self.path("clear_refs");
        std::fs::write(&path, "5").with_context(|| path.display().to_string())
    }

    /// How often its threads were put on a core after waiting for something.
    pub fn wakeups(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(self.path("task"))? {
            let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }

    /// Its child of this name.
    pub fn child(&self, name: &str) -> Option<Self> {
        let entries = std::fs::read_dir("/proc").ok()?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.map(Self).find(|process| process.is_child(self.0, name).unwrap_or(false))
    }

    fn is_child(&self, parent: u32, name: &str) -> Result<bool> {
        let stat = self.read("stat")?;
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let is_parent = rest.split_whitespace().nth(1) == Some(parent.to_string().as_str());
        Ok(is_parent && stat.contains(&format!("({name})")))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.path(file);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }
}

/// As `71.3 MB`, where a MB is 10⁶ bytes.
pub fn megabytes(kib: u64) -> String {
    format!("{:.1} MB", kib as f64 * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_read() {
        let own = Process::own();
        let memory = own.memory().unwrap();
        assert!(memory.rss > 0 && memory.anonymous <= memory.rss && memory.rss <= memory.peak);
        assert!(own.cpu().unwrap() < Duration::from_secs(3600));
        assert!(own.child("no such name").is_none());
    }
}
