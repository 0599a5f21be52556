//! What this machine is and has, as the kernel tells it.

use std::fs;
use std::io;
use std::path::Path;

/// The machine's properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Processors that are online.
    pub(crate) cpus: i64,
    /// Memory in bytes.
    pub(crate) memory: i64,
    /// Size of the file system with the kubelet's directory, in bytes.
    pub(crate) storage: i64,
    /// Huge pages by size: `2Mi` and bytes.
    pub(crate) hugepages: Vec<(String, i64)>,
    /// As `amd64`.
    pub(crate) architecture: String,
    /// As `6.1.0-18-amd64`.
    pub(crate) kernel: String,
    /// As `Debian GNU/Linux 12 (bookworm)`.
    pub(crate) os: String,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
}

/// Reads everything. Identifiers that the machine does not have stay empty.
pub(crate) fn read(root_dir: &Path) -> io::Result<Machine> {
    let uname = rustix::system::uname();
    let storage = rustix::fs::statvfs(root_dir)?;
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Ok(Machine {
        cpus: cpus(&fs::read_to_string("/sys/devices/system/cpu/online")?),
        memory: memory(&fs::read_to_string("/proc/meminfo")?),
        storage: i64::try_from(storage.f_blocks.saturating_mul(storage.f_frsize)).unwrap_or(i64::MAX),
        hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
        architecture: architecture(&uname.machine().to_string_lossy()).to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        os: os_name(&text("/etc/os-release")),
        machine_id: text("/etc/machine-id"),
        system_uuid: text("/sys/class/dmi/id/product_uuid"),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
    })
}

/// Counts a list of ranges as `0-3,5`.
fn cpus(online: &str) -> i64 {
    let count = |range: &str| -> Option<i64> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<i64>().ok()? - first.parse::<i64>().ok()? + 1)
    };
    online.trim().split(',').filter_map(count).sum::<i64>().max(1)
}

fn memory(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<i64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

fn hugepages(dir: &Path) -> Vec<(String, i64)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let one = |name: &str| -> Option<(String, i64)> {
        let kilobytes: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(dir.join(name).join("nr_hugepages")).ok()?;
        let size = match kilobytes {
            k if k % (1 << 20) == 0 => format!("{}Gi", k >> 20),
            k if k % (1 << 10) == 0 => format!("{}Mi", k >> 10),
            k => format!("{k}Ki"),
        };
        Some((size, count.trim().parse::<i64>().ok()?.saturating_mul(kilobytes).saturating_mul(1024)))
    };
    let mut pages: Vec<_> =
        entries.flatten().filter_map(|entry| one(&entry.file_name().to_string_lossy())).collect();
    pages.sort();
    pages
}

fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        other => other,
    }
}

fn os_name(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!((cpus("0-3,5\n"), cpus("0\n")), (5, 1));
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16384 * 1024);
        assert_eq!(os_name("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = read(Path::new("/")).unwrap();
        assert!(machine.cpus > 0 && machine.memory > 0 && machine.storage > 0, "{machine:?}");
    }
}
