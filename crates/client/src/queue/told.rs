//! What named queues tell of themselves: Kubernetes' `workqueue_*` metrics.
//!
//! A process has one page of metrics, so its queues are known process-wide: by a weak reference, which goes with the
//! queue. Of several of one name, as of a controller that was started anew, the newest is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::metrics::{Counter, Histogram, header, line};

/// Seconds, from ten nanoseconds to a quarter of an hour, as client-go has them.
const BUCKETS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0];

static QUEUES: Mutex<Vec<Weak<dyn Told>>> = Mutex::new(Vec::new());

/// What a queue has counted since it began.
#[derive(Debug)]
pub(super) struct Counts {
    pub name: &'static str,
    pub adds: Counter,
    pub retries: Counter,
    /// From a key's being ready to its being taken.
    pub waited: Histogram,
    /// From there to its being done.
    pub worked: Histogram,
}

impl Counts {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            adds: Counter::default(),
            retries: Counter::default(),
            waited: Histogram::new(BUCKETS),
            worked: Histogram::new(BUCKETS),
        }
    }
}

/// What a queue is doing now.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// Keys that are ready.
    pub depth: usize,
    /// How long the keys that are being worked on have been so, together.
    pub unfinished: Duration,
    /// The longest of these times.
    pub longest: Duration,
}

/// A queue that has a name.
pub(super) trait Told: Send + Sync {
    fn counts(&self) -> Option<&Counts>;
    fn present(&self) -> Present;
}

/// Has a queue told from now on.
pub(super) fn register(queue: Weak<dyn Told>) {
    let mut queues = QUEUES.lock();
    queues.retain(|known| known.strong_count() > 0);
    queues.push(queue);
}

/// Writes the metrics of all named queues.
pub fn render(out: &mut String) {
    let alive: Vec<Arc<dyn Told>> = QUEUES.lock().iter().filter_map(Weak::upgrade).collect();
    let queues: BTreeMap<&str, (&Counts, Present)> = alive
        .iter()
        .filter_map(|queue| Some((queue.counts()?, queue.present())))
        .map(|(counts, present)| (counts.name, (counts, present)))
        .collect();
    let each = |out: &mut String, name: &str, kind: &str, help: &str, value: fn(&Counts, &Present) -> f64| {
        header(out, name, kind, help);
        for (counts, present) in queues.values() {
            line(out, name, &label(counts), value(counts, present));
        }
    };
    let (adds, retries) = ("workqueue_adds_total", "workqueue_retries_total");
    each(out, adds, "counter", "Keys added.", |counts, _| counts.adds.get() as f64);
    each(out, "workqueue_depth", "gauge", "Keys that are ready now.", |_, present| present.depth as f64);
    let name = "workqueue_longest_running_processor_seconds";
    each(out, name, "gauge", "The longest that a key is being worked on.", |_, now| {
        now.longest.as_secs_f64()
    });
    histograms(out, "workqueue_queue_duration_seconds", "From ready to taken.", &queues, |counts| {
        &counts.waited
    });
    each(out, retries, "counter", "Keys added again after a failure.", |counts, _| {
        counts.retries.get() as f64
    });
    let name = "workqueue_unfinished_work_seconds";
    each(out, name, "gauge", "How long keys are being worked on.", |_, now| now.unfinished.as_secs_f64());
    histograms(out, "workqueue_work_duration_seconds", "From taken to done.", &queues, |counts| {
        &counts.worked
    });
}

fn label(counts: &Counts) -> String {
    format!("name=\"{}\"", counts.name)
}

fn histograms(
    out: &mut String,
    name: &str,
    help: &str,
    queues: &BTreeMap<&str, (&Counts, Present)>,
    of: fn(&Counts) -> &Histogram,
) {
    header(out, name, "histogram", help);
    for (counts, _) in queues.values() {
        of(counts).render(out, name, &label(counts));
    }
}
