//! On what it was measured: values without this mean little.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::cluster::Ground;
use crate::stats::Samples;

const SYNCS: usize = 200;

/// Date, versions, processor, load and disk, a line each.
pub fn describe(ground: &Ground) -> Result<String> {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cpus = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let disk = sync_time(ground)?;
    Ok(format!(
        "date:       {}\nbinary:     {}\nmachine:    {cpus} x {}, Linux {}\nruntime:    {}, {}\nload:       {}\ndisk:       \
         fdatasync of 4 KiB {}",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        first_line(Command::new(&ground.bin).arg("version")),
        model.unwrap_or("unknown CPU"),
        kernel.trim(),
        first_line(Command::new("containerd").arg("--version")),
        first_line(Command::new("runc").arg("--version")),
        load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        disk.text(),
    ))
}

/// How long the disk takes to keep a page: what bounds a lone durable write.
fn sync_time(ground: &Ground) -> Result<Samples> {
    let mut file: File = tempfile::tempfile_in(&ground.dir)?;
    let page = [7; 4096];
    let mut samples = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.rewind()?;
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        samples.push(start.elapsed());
    }
    Ok(Samples::new(samples))
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_owned()
}
