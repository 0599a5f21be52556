//! Counters, gauges and histograms, and how they are written: Prometheus' text form.

pub mod process;

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

    /// What was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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

/// Counters of one name. Keys are label texts without braces, as `verb="GET",code="200"`.
pub struct Counters {
    name: &'static str,
    help: &'static str,
    series: RwLock<BTreeMap<Box<str>, Counter>>,
}

impl Counters {
    /// Counters without a series yet.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, series: RwLock::default() }
    }

    /// The counter of a label text, made when new.
    pub fn with(&self, labels: &str) -> Counter {
        if let Some(counter) = self.series.read().get(labels) {
            return counter.clone();
        }
        self.series.write().entry(labels.into()).or_default().clone()
    }

    /// Writes all series.
    pub fn render(&self, out: &mut String) {
        header(out, self.name, "counter", self.help);
        for (labels, counter) in self.series.read().iter() {
            line(out, self.name, labels, counter.get());
        }
    }
}

/// Attempts at one thing, by how they ended.
pub struct Attempts {
    results: Counters,
    good: Counter,
    bad: Counter,
}

impl Attempts {
    /// None yet. `good` and `bad` are the two values of the label `result`.
    pub fn new(name: &'static str, help: &'static str, good: &str, bad: &str) -> Self {
        let results = Counters::new(name, help);
        let [good, bad] = [good, bad].map(|result| results.with(&format!("result=\"{result}\"")));
        Self { results, good, bad }
    }

    /// Counts one.
    pub fn count(&self, is_good: bool) {
        if is_good { &self.good } else { &self.bad }.add(1);
    }

    /// Writes both series.
    pub fn render(&self, out: &mut String) {
        self.results.render(out);
    }
}

/// One histogram.
#[derive(Debug)]
pub struct Histogram {
    buckets: &'static [f64],
    /// One per bucket and one for what is over the last; not cumulative.
    counts: Box<[AtomicU64]>,
    /// The bits of a float: a whole number would have to choose between a second's millionths and the bytes of a year.
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing recorded yet. `buckets` are upper limits in rising order.
    pub fn new(buckets: &'static [f64]) -> Self {
        let counts = (0..=buckets.len()).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// Records one value.
    pub fn observe(&self, value: f64) {
        let bucket = self.buckets.partition_point(|limit| *limit < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // `add` never declines.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Writes the series.
    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        let limits = self.buckets.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (limit, count) in limits.zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{limit}\"}} {total}");
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
    }
}

/// Histograms of one name. Keys are label texts, as those of [`Counters`].
pub struct Histograms {
    name: &'static str,
    help: &'static str,
    buckets: &'static [f64],
    series: RwLock<BTreeMap<Box<str>, Arc<Histogram>>>,
}

impl Histograms {
    /// Histograms without a series yet.
    pub fn new(name: &'static str, help: &'static str, buckets: &'static [f64]) -> Self {
        Self { name, help, buckets, series: RwLock::default() }
    }

    /// The histogram of a label text, made when new.
    pub fn with(&self, labels: &str) -> Arc<Histogram> {
        if let Some(found) = self.series.read().get(labels) {
            return found.clone();
        }
        let new = || Arc::new(Histogram::new(self.buckets));
        self.series.write().entry(labels.into()).or_insert_with(new).clone()
    }

    /// Writes all series.
    pub fn render(&self, out: &mut String) {
        header(out, self.name, "histogram", self.help);
        for (labels, histogram) in self.series.read().iter() {
            histogram.render(out, self.name, labels);
        }
    }
}

/// The two comment lines above a metric.
pub fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
}

/// One sample.
pub fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
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
        let histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.125, 0.5, 0.75, 9.0] {
            histogram.observe(value);
        }
        let mut out = String::new();
        histogram.render(&mut out, "h", "x=\"1\"");
        let lines = [
            "h_bucket{x=\"1\",le=\"0.5\"} 2",
            "le=\"1\"} 3",
            "le=\"+Inf\"} 4",
            "h_sum{x=\"1\"} 10.375",
            "_count{x=\"1\"} 4",
        ];
        for line in lines {
            assert!(out.contains(line), "{line} in {out}");
        }
    }

    #[test]
    fn sums_of_bytes_do_not_wrap() {
        let histogram = Histogram::new(&[1e9]);
        (0..3).for_each(|_| histogram.observe(1e13));
        let mut out = String::new();
        histogram.render(&mut out, "h", "");
        assert!(out.contains("h_sum{} 30000000000000\n"), "{out}");
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
