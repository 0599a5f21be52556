//! What the process costs when nothing happens: memory, CPU and wake-ups over half a minute.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::{Ground, Site};
use crate::process::{Process, megabytes};
use crate::report::Row;

/// After a start there are caches to drop and leases to take.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(30);
const RSS_LIMIT_KIB: u64 = 80_000_000 / 1024;
const CPU_LIMIT_PERCENT: f64 = 1.0;

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let process = Process::new(running.pid()?);
    tokio::time::sleep(SETTLE).await;
    let (cpu, wakeups) = (process.cpu()?, process.wakeups()?);
    tokio::time::sleep(WINDOW).await;
    let percent = (process.cpu()? - cpu).as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    let wakeups = process.wakeups()?.saturating_sub(wakeups) as f64 / WINDOW.as_secs_f64();
    let memory = process.memory()?;
    let text = format!("{} ({} anonymous)", megabytes(memory.rss), megabytes(memory.anonymous));
    let mut rows = vec![
        Row::new("idle: resident memory", text)
            .mark("≤ 80 MB", memory.rss <= RSS_LIMIT_KIB)
            .reference("kube-apiserver 331 MB + etcd 68 MB after 5,000 small objects"),
        Row::new("idle: CPU over 30 s", format!("{percent:.2} % of a core, {wakeups:.0} wake-ups/s"))
            .mark("≤ 1 %", percent <= CPU_LIMIT_PERCENT),
    ];
    if let Some(containerd) = process.child("containerd") {
        let memory = containerd.memory()?;
        rows.push(Row::new("idle: containerd beside it", megabytes(memory.rss)));
    }
    site.stop(running).await?;
    Ok(rows)
}
