//! Series by label text: counters, gauges and histograms, and how they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

/// One counter. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts on.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// One gauge that falls back when dropped.
#[derive(Debug)]
pub struct GaugeGuard(Arc<AtomicI64>);

impl GaugeGuard {
    /// Raises the gauge until dropped.
    pub fn raise(gauge: &Arc<AtomicI64>) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Series of one metric. Keys are label texts without braces, as `verb="GET",code="200"`.
pub struct Family<S> {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    series: RwLock<BTreeMap<Box<str>, S>>,
}

/// Counters of one name.
pub type Counters = Family<Counter>;
/// Gauges of one name.
pub type Gauges = Family<Arc<AtomicI64>>;

impl<S: Clone + Default> Family<S> {
    fn of(name: &'static str, help: &'static str, kind: &'static str) -> Self {
        Self { name, help, kind, series: RwLock::default() }
    }

    /// The series of a label text, made when new.
    pub fn with(&self, labels: &str) -> S {
        if let Some(series) = self.series.read().get(labels) {
            return series.clone();
        }
        self.series.write().entry(labels.into()).or_default().clone()
    }

    fn render_with(&self, out: &mut String, value: impl Fn(&S) -> i128) {
        header(out, self.name, self.kind, self.help);
        for (labels, series) in self.series.read().iter() {
            let _ = writeln!(out, "{}{{{labels}}} {}", self.name, value(series));
        }
    }
}

impl Family<Counter> {
    /// Counters without a series yet.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self::of(name, help, "counter")
    }

    /// Writes all series.
    pub fn render(&self, out: &mut String) {
        self.render_with(out, |counter| counter.0.load(Ordering::Relaxed).into());
    }
}

impl Family<Arc<AtomicI64>> {
    /// Gauges without a series yet.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self::of(name, help, "gauge")
    }

    /// Writes all series.
    pub fn render(&self, out: &mut String) {
        self.render_with(out, |gauge| gauge.load(Ordering::Relaxed).into());
    }
}

/// Histograms of one name with the same buckets.
pub struct Histograms {
    name: &'static str,
    help: &'static str,
    buckets: &'static [f64],
    series: RwLock<BTreeMap<Box<str>, Arc<Histogram>>>,
}

struct Histogram {
    /// One per bucket and one for what is over the last; not cumulative.
    counts: Box<[AtomicU64]>,
    /// In millionths, so that an integer can be added to.
    sum_micros: AtomicU64,
}

impl Histograms {
    /// Histograms without a series yet.
    pub fn new(name: &'static str, help: &'static str, buckets: &'static [f64]) -> Self {
        Self { name, help, buckets, series: RwLock::default() }
    }

    /// Records one value.
    pub fn observe(&self, labels: &str, value: f64) {
        let histogram = self.with(labels);
        let bucket = self.buckets.partition_point(|limit| *limit < value);
        if let Some(count) = histogram.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Durations and sizes are positive and far below the range's end: the cast only drops a fraction.
        histogram.sum_micros.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    fn with(&self, labels: &str) -> Arc<Histogram> {
        if let Some(series) = self.series.read().get(labels) {
            return series.clone();
        }
        let empty = || {
            let counts = (0..=self.buckets.len()).map(|_| AtomicU64::new(0)).collect();
            Arc::new(Histogram { counts, sum_micros: AtomicU64::new(0) })
        };
        self.series.write().entry(labels.into()).or_insert_with(empty).clone()
    }

    /// Writes all series.
    pub fn render(&self, out: &mut String) {
        header(out, self.name, "histogram", self.help);
        for (labels, histogram) in self.series.read().iter() {
            self.render_one(out, labels, histogram);
        }
    }

    fn render_one(&self, out: &mut String, labels: &str, histogram: &Histogram) {
        let name = self.name;
        let limits = self.buckets.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (limit, count) in limits.zip(&histogram.counts) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{limit}\"}} {total}");
        }
        let sum = histogram.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
    }
}

/// The two comment lines above a metric.
pub fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_prometheus() {
        let counters = Counters::new("a_total", "help");
        counters.with("x=\"1\"").add(2);
        counters.with("x=\"1\"").add(1);
        let mut out = String::new();
        counters.render(&mut out);
        assert_eq!(out, "# HELP a_total [STABLE] help\n# TYPE a_total counter\na_total{x=\"1\"} 3\n");
    }

    #[test]
    fn buckets_are_cumulative_and_count_their_limit() {
        let histograms = Histograms::new("h", "help", &[0.5, 1.0]);
        for value in [0.1, 0.5, 0.7, 9.0] {
            histograms.observe("x=\"1\"", value);
        }
        let mut out = String::new();
        histograms.render(&mut out);
        for line in [
            "h_bucket{x=\"1\",le=\"0.5\"} 2",
            "le=\"1\"} 3",
            "le=\"+Inf\"} 4",
            "h_sum{x=\"1\"} 10.3",
            "h_count{x=\"1\"} 4",
        ] {
            assert!(out.contains(line), "{line} in {out}");
        }
    }

    #[test]
    fn a_gauge_falls_when_its_guard_goes() {
        let gauge = Arc::new(AtomicI64::new(0));
        let guard = GaugeGuard::raise(&gauge);
        assert_eq!(gauge.load(Ordering::Relaxed), 1);
        drop(guard);
        assert_eq!(gauge.load(Ordering::Relaxed), 0);
    }
}
