//! What pods and the node use: read when somebody asks, from the kernel ([`group`], [`machine`]), named by the runtime
//! ([`sample`]), told in three forms ([`summary`], [`text`]).
//!
//! Nothing is sampled while nobody asks. A rate needs two readings: the second is the one before, if that was not long ago,
//! else a reading taken a moment earlier.

pub(crate) mod disk;
pub(crate) mod group;
pub(crate) mod machine;
pub(crate) mod probes;
pub(crate) mod sample;
pub(crate) mod summary;
pub(crate) mod text;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tiphys_client::metrics::Counters;

use crate::context::Context;
use probes::Probes;
use sample::{Detail, Sample};
use summary::{Before, Beside};

/// Readings further apart than this tell nothing about now.
const LONG_AGO: SignedDuration = SignedDuration::from_secs(60);
/// Readings closer than this tell too little.
const MOMENT: SignedDuration = SignedDuration::from_secs(1);
/// Between two readings where there was none before.
const PAUSE: Duration = Duration::from_millis(200);

/// What is counted, and what the next rates start from.
pub(crate) struct Stats {
    before: Mutex<Option<(Timestamp, Before)>>,
    /// Pods that were evicted, by signal.
    pub(crate) evictions: Counters,
    /// Probes by outcome.
    pub(crate) probes: Probes,
}

impl Default for Stats {
    fn default() -> Self {
        let evictions =
            Counters::new("kubelet_evictions", "Cumulative number of pod evictions by eviction signal");
        Self { before: Mutex::default(), evictions, probes: Probes::default() }
    }
}

impl Stats {
    /// The last reading, if it is of use for rates now.
    fn usable(&self, now: Timestamp) -> Option<Before> {
        let before = self.before.lock();
        let (at, readings) = before.as_ref()?;
        let age = now.duration_since(*at);
        (age >= MOMENT && age <= LONG_AGO).then(|| readings.clone())
    }

    fn remember(&self, sample: &Sample) {
        let mut before = self.before.lock();
        let now = sample.node.at;
        if before.as_ref().is_none_or(|(at, _)| now.duration_since(*at) >= MOMENT) {
            *before = Some((now, summary::before(sample)));
        }
    }
}

/// `/stats/summary`.
pub(crate) async fn summary(ctx: &Context) -> tiphys_runtime::Result<serde_json::Value> {
    let before = match ctx.stats.usable(Timestamp::now()) {
        Some(before) => before,
        None => {
            let first = sample::take(ctx, Detail::Resources).await?;
            tokio::time::sleep(PAUSE).await;
            summary::before(&first)
        }
    };
    let sample = sample::take(ctx, Detail::All).await?;
    ctx.stats.remember(&sample);
    let disk = disk::of_pods(ctx, &sample).await;
    let images = ctx.runtime.image_fs().await.unwrap_or_default().into_iter().next();
    let beside = Beside {
        node_name: ctx.config.node_name.clone(),
        booted: machine::booted().unwrap_or_default(),
        memory: u64::try_from(ctx.memory).unwrap_or_default(),
        root: machine::file_system(&ctx.config.root_dir),
        images: images.as_ref().and_then(|fs| machine::file_system(&fs.mountpoint)),
        images_used: images.map(|fs| fs.used_bytes),
        processes: machine::processes(),
        interfaces: machine::interfaces(std::process::id()),
        disk,
    };
    Ok(summary::summary(&sample, &before, &beside))
}
