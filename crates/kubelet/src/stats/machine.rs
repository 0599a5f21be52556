//! What the whole machine has used, from `/proc` and its file systems.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::group::{Cpu, Memory, TICK_NANOS, Table, Throttle, Usage};

/// A file system's room, in bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) capacity: u64,
    /// What who is not root may still take.
    pub(crate) available: u64,
    /// What is taken, by anybody.
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl FileSystem {
    pub(crate) fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }
}

/// Process identifiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) most: u64,
    pub(crate) now: u64,
}

/// One interface's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// The file system that a path is on; `None` where there is none.
pub(crate) fn file_system(path: &Path) -> Option<FileSystem> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(FileSystem {
        capacity: found.f_blocks.saturating_mul(found.f_frsize),
        used: found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize),
        available: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_favail,
    })
}

/// Processors and memory of the machine.
pub(crate) fn usage() -> Usage {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = memory(&read("/proc/meminfo"), &read("/proc/vmstat"));
    Usage { at: Timestamp::now(), cpu: cpu(&read("/proc/stat")), memory, processes: None }
}

/// The first line of `/proc/stat`: ticks as user, nice, system, idle, iowait, irq, softirq, steal.
fn cpu(stat: &str) -> Option<Cpu> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let nanos = |fields: &[usize]| {
        let sum: u64 = fields.iter().filter_map(|at| ticks.get(*at)).sum();
        sum.saturating_mul(TICK_NANOS)
    };
    let (user, system) = (nanos(&[0, 1]), nanos(&[2, 5, 6]));
    Some(Cpu { total: user + system, user, system, throttle: Throttle::default() })
}

fn memory(meminfo: &str, vmstat: &str) -> Option<Memory> {
    let (info, events) = (Table::parse(meminfo), Table::parse(vmstat));
    let bytes = |name: &str| info.get(name).saturating_mul(1024);
    let total = bytes("MemTotal");
    let usage = total.saturating_sub(bytes("MemFree"));
    (total > 0).then(|| Memory {
        usage,
        working_set: usage.saturating_sub(bytes("Inactive(file)")),
        rss: bytes("AnonPages"),
        cache: bytes("Cached"),
        mapped: bytes("Mapped"),
        swap: bytes("SwapTotal").saturating_sub(bytes("SwapFree")),
        peak: usage,
        limit: Some(total),
        faults: events.get("pgfault"),
        major_faults: events.get("pgmajfault"),
        failures: 0,
    })
}

/// Processes and threads that exist, and how many may.
pub(crate) fn processes() -> Option<Processes> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let now = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Processes { most, now })
}

/// When the machine began.
pub(crate) fn booted() -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let second = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(second).ok()
}

/// The interfaces that a process sees, loopback aside.
pub(crate) fn interfaces(process: u32) -> Vec<Interface> {
    fs::read_to_string(format!("/proc/{process}/net/dev")).map(|text| parse_dev(&text)).unwrap_or_default()
}

fn parse_dev(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let direction = |from: usize| {
            let [bytes, packets, errors, dropped] = *counts.get(from..from + 4)?.first_chunk()?;
            Some(Traffic { bytes, packets, errors, dropped })
        };
        Some(Interface { name: name.trim().into(), received: direction(0)?, sent: direction(8)? })
    };
    text.lines().filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let cpu = cpu("cpu  10 1 5 100 9 1 1 0 0 0\ncpu0 1 1\n").unwrap();
        assert_eq!((cpu.total, cpu.user, cpu.system), (180_000_000, 110_000_000, 70_000_000));
        let info = "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 200 kB\nAnonPages: 100 kB\n";
        let memory = memory(info, "pgfault 7\n").unwrap();
        assert_eq!((memory.usage, memory.working_set), (700 * 1024, 500 * 1024));
        assert_eq!((memory.rss, memory.faults), (100 * 1024, 7));
    }

    #[test]
    fn interfaces_are_told_apart() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                    eth0: 10 2 1 3 0 0 0 0 20 4 5 6 0 0 0 0\n";
        let found = parse_dev(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].received, Traffic { bytes: 10, packets: 2, errors: 1, dropped: 3 });
        assert_eq!(found[0].sent, Traffic { bytes: 20, packets: 4, errors: 5, dropped: 6 });
    }

    #[test]
    fn this_machine_can_be_read() {
        let usage = usage();
        assert!(usage.cpu.unwrap().total > 0 && usage.memory.unwrap().working_set > 0);
        assert!(processes().unwrap().now > 0 && file_system(Path::new("/")).unwrap().capacity > 0);
    }
}
