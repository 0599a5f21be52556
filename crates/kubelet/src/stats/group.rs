//! What one control group has used, read from the kernel's files of either version. What a machine does not have stays
//! `None`; nothing here fails.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::cgroups::Layout;

/// The kernel's clock ticks of `cpuacct.stat`, in nanoseconds: fixed at 100 a second in Linux' interface to programs.
pub(super) const TICK_NANOS: u64 = 10_000_000;

/// What a group has used at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) at: Timestamp,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<Memory>,
    pub(crate) processes: Option<u64>,
}

/// Time of processors, in nanoseconds, since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) total: u64,
    pub(crate) user: u64,
    pub(crate) system: u64,
    pub(crate) throttle: Throttle,
}

/// How often a limit of processor time was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttle {
    pub(crate) periods: u64,
    pub(crate) throttled: u64,
    /// Nanoseconds.
    pub(crate) time: u64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    /// What cannot be had back without hurting: usage without inactive pages of files.
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) mapped: u64,
    pub(crate) swap: u64,
    pub(crate) peak: u64,
    pub(crate) limit: Option<u64>,
    pub(crate) faults: u64,
    pub(crate) major_faults: u64,
    /// How often the limit was met.
    pub(crate) failures: u64,
}

/// Reads a group. `path` is that of the group below the mount of its hierarchy.
pub(crate) fn read(layout: &Layout, path: &Path) -> Usage {
    let files = Files { layout, path };
    let (cpu, memory) = match layout.unified {
        true => (files.cpu_v2(), files.memory_v2()),
        false => (files.cpu_v1(), files.memory_v1()),
    };
    let processes = files.number("pids", "pids.current");
    Usage { at: Timestamp::now(), cpu, memory, processes }
}

/// Some process of a group or of those below it: it is in the group's namespaces.
pub(super) fn process(layout: &Layout, path: &Path) -> Option<u32> {
    let text = fs::read_to_string(layout.group("memory", path).join("cgroup.procs")).ok()?;
    text.lines().next()?.parse().ok()
}

struct Files<'a> {
    layout: &'a Layout,
    path: &'a Path,
}

impl Files<'_> {
    fn text(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.layout.group(controller, self.path).join(file)).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file)?.trim().parse().ok()
    }

    /// A file of lines `name value`.
    fn table(&self, controller: &str, file: &str) -> Option<Table> {
        self.text(controller, file).map(|text| Table::parse(&text))
    }

    fn cpu_v1(&self) -> Option<Cpu> {
        let total = self.number("cpuacct", "cpuacct.usage")?;
        let parts = self.table("cpuacct", "cpuacct.stat").unwrap_or_default();
        let throttle = self.table("cpu", "cpu.stat").unwrap_or_default();
        Some(Cpu {
            total,
            user: parts.get("user").saturating_mul(TICK_NANOS),
            system: parts.get("system").saturating_mul(TICK_NANOS),
            throttle: Throttle {
                periods: throttle.get("nr_periods"),
                throttled: throttle.get("nr_throttled"),
                time: throttle.get("throttled_time"),
            },
        })
    }

    fn cpu_v2(&self) -> Option<Cpu> {
        let table = self.table("cpu", "cpu.stat")?;
        let nanos = |name: &str| table.get(name).saturating_mul(1000);
        Some(Cpu {
            total: nanos("usage_usec"),
            user: nanos("user_usec"),
            system: nanos("system_usec"),
            throttle: Throttle {
                periods: table.get("nr_periods"),
                throttled: table.get("nr_throttled"),
                time: nanos("throttled_usec"),
            },
        })
    }

    fn memory_v1(&self) -> Option<Memory> {
        let usage = self.number("memory", "memory.usage_in_bytes")?;
        let table = self.table("memory", "memory.stat").unwrap_or_default();
        Some(Memory {
            usage,
            working_set: usage.saturating_sub(table.get("total_inactive_file")),
            rss: table.get("total_rss"),
            cache: table.get("total_cache"),
            mapped: table.get("total_mapped_file"),
            swap: table.get("total_swap"),
            peak: self.number("memory", "memory.max_usage_in_bytes").unwrap_or(usage),
            limit: self.number("memory", "memory.limit_in_bytes").filter(|limit| *limit < UNLIMITED),
            faults: table.get("total_pgfault"),
            major_faults: table.get("total_pgmajfault"),
            failures: self.number("memory", "memory.failcnt").unwrap_or_default(),
        })
    }

    fn memory_v2(&self) -> Option<Memory> {
        let usage = self.number("memory", "memory.current")?;
        let table = self.table("memory", "memory.stat").unwrap_or_default();
        Some(Memory {
            usage,
            working_set: usage.saturating_sub(table.get("inactive_file")),
            rss: table.get("anon"),
            cache: table.get("file"),
            mapped: table.get("file_mapped"),
            swap: self.number("memory", "memory.swap.current").unwrap_or_default(),
            peak: self.number("memory", "memory.peak").unwrap_or(usage),
            limit: self.number("memory", "memory.max"),
            faults: table.get("pgfault"),
            major_faults: table.get("pgmajfault"),
            failures: self.table("memory", "memory.events").unwrap_or_default().get("max"),
        })
    }
}

/// From here on version 1 means that there is no limit.
const UNLIMITED: u64 = 1 << 60;

/// Numbers by name.
#[derive(Default)]
pub(super) struct Table(HashMap<Box<str>, u64>);

impl Table {
    pub(super) fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.trim_end_matches(':').into(), words.next()?.parse().ok()?))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    pub(super) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// The group of one container in its pod's, under the name its runtime gives it.
pub(super) fn of_container(layout: &Layout, pod: &Path, id: &str) -> Option<PathBuf> {
    [pod.join(id), pod.join(format!("cri-containerd-{id}.scope")), pod.join(format!("crio-{id}.scope"))]
        .into_iter()
        .find(|path| layout.group("memory", path).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn version_one_is_read() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("cpuacct/k/g/cpuacct.usage", "1234567890\n"),
                ("cpuacct/k/g/cpuacct.stat", "user 100\nsystem 20\n"),
                ("cpu/k/g/cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 77\n"),
                ("memory/k/g/memory.usage_in_bytes", "1000\n"),
                ("memory/k/g/memory.limit_in_bytes", "9223372036854771712\n"),
                (
                    "memory/k/g/memory.stat",
                    "rss 1\ntotal_rss 500\ntotal_inactive_file 300\ntotal_cache 400\n",
                ),
                ("pids/k/g/pids.current", "3\n"),
            ],
        );
        let layout = Layout { mount: dir.path().into(), unified: false };
        let usage = read(&layout, Path::new("k/g"));
        let cpu = usage.cpu.unwrap();
        assert_eq!((cpu.total, cpu.user, cpu.system), (1_234_567_890, 1_000_000_000, 200_000_000));
        assert_eq!(cpu.throttle, Throttle { periods: 5, throttled: 2, time: 77 });
        let memory = usage.memory.unwrap();
        assert_eq!((memory.usage, memory.working_set, memory.rss, memory.limit), (1000, 700, 500, None));
        assert_eq!(usage.processes, Some(3));
        assert_eq!(read(&layout, Path::new("k/none")).cpu, None);
    }

    #[test]
    fn version_two_is_read() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("g/cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nthrottled_usec 4\n"),
                ("g/memory.current", "1000\n"),
                ("g/memory.max", "4096\n"),
                ("g/memory.stat", "anon 500\nfile 400\ninactive_file 1300\n"),
                ("g/memory.events", "low 0\nmax 6\noom 1\n"),
            ],
        );
        let layout = Layout { mount: dir.path().into(), unified: true };
        let usage = read(&layout, Path::new("g"));
        let cpu = usage.cpu.unwrap();
        assert_eq!((cpu.total, cpu.user, cpu.throttle.time), (5000, 3000, 4000));
        let memory = usage.memory.unwrap();
        assert_eq!((memory.working_set, memory.limit, memory.failures), (0, Some(4096), 6));
    }
}
