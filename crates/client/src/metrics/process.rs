//! The process's own figures, under the names of Prometheus' client libraries.

use std::fmt::Write as _;

use super::header;

/// Clock ticks per second of `/proc/self/stat`: fixed at 100 in Linux' interface to programs.
const TICKS: f64 = 100.0;

/// Writes what can be read; what cannot is left out.
pub fn render(out: &mut String) {
    if let Some((cpu_seconds, resident, start_ticks)) = stat() {
        line(
            out,
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            cpu_seconds,
        );
        line(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident);
        if let Some(boot) = boot_time() {
            let start = boot + start_ticks / TICKS;
            line(
                out,
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since unix epoch in seconds.",
                start,
            );
        }
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        line(out, "process_open_fds", "gauge", "Number of open file descriptors.", entries.count() as f64);
    }
}

fn line(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    header(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

/// CPU seconds, resident bytes, start in ticks after boot.
fn stat() -> Option<(f64, f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces; fields are counted after its closing bracket, which ends field 2.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    Some(((field(14)? + field(15)?) / TICKS, resident()?, field(22)?))
}

fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<f64>().ok()? * 1024.0)
}

fn boot_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_process_has_used_memory() {
        let (_, resident, _) = super::stat().unwrap();
        assert!(resident > 100_000.0);
    }
}
