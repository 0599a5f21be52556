//! What the server counts, in Prometheus' text form, under the names and labels that Kubernetes dashboards query.
//!
//! - A series is found by its label text; counting on is one atomic addition. [`Counter`]s can be held by streams.
//! - Label values come from the table of kinds and from closed sets, never from free client text: the number of series
//!   is bounded.
//! - Other parts add their own lines with [`Metrics::register`].

mod family;
mod process;
mod request;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub use family::Counter;
use family::{Counters, Gauges, Histograms};
use parking_lot::Mutex;
pub use request::{Dimensions, InFlight};

/// Seconds, as kube-apiserver's request histogram has them.
const REQUEST_BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// Bytes, as kube-apiserver's response size histogram has them.
const SIZE_BUCKETS: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// All of the server's metrics.
pub struct Metrics {
    requests: Counters,
    durations: Histograms,
    sizes: Histograms,
    terminations: Counters,
    watch_events: Counters,
    long_running: Gauges,
    reads: Arc<AtomicI64>,
    writes: Arc<AtomicI64>,
    version: String,
    sources: Mutex<Vec<Source>>,
}

impl Metrics {
    /// Nothing counted yet. `version` is shown in `kubernetes_build_info`.
    pub fn new(version: &str) -> Self {
        Self {
            requests: Counters::new(
                "apiserver_request_total",
                "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, \
                 scope, component, and HTTP response code.",
            ),
            durations: Histograms::new(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, dry run value, group, version, resource, \
                 subresource, scope and component.",
                REQUEST_BUCKETS,
            ),
            sizes: Histograms::new(
                "apiserver_response_sizes",
                "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and \
                 component.",
                SIZE_BUCKETS,
            ),
            terminations: Counters::new(
                "apiserver_request_terminations_total",
                "Number of requests which apiserver terminated in self-defense.",
            ),
            watch_events: Counters::new(
                "apiserver_watch_events_total",
                "Number of events sent in watch clients.",
            ),
            long_running: Gauges::new(
                "apiserver_longrunning_requests",
                "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, \
                 scope and component.",
            ),
            reads: Arc::default(),
            writes: Arc::default(),
            version: version.to_owned(),
            sources: Mutex::default(),
        }
    }

    /// Adds lines to every scrape: complete metrics with their `# TYPE` lines.
    pub fn register(&self, source: impl Fn(&mut String) + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(32 * 1024);
        self.render_in_flight(&mut out);
        self.long_running.render(&mut out);
        self.durations.render(&mut out);
        self.terminations.render(&mut out);
        self.requests.render(&mut out);
        self.sizes.render(&mut out);
        self.watch_events.render(&mut out);
        let version = &self.version;
        family::header(&mut out, "kubernetes_build_info", "gauge", "The version of this server.");
        let _ = writeln!(out, "kubernetes_build_info{{git_version=\"{version}\"}} 1");
        process::render(&mut out);
        for source in self.sources.lock().iter() {
            source(&mut out);
        }
        out
    }

    fn render_in_flight(&self, out: &mut String) {
        let name = "apiserver_current_inflight_requests";
        family::header(
            out,
            name,
            "gauge",
            "Number of requests that are being served now, per kind of request.",
        );
        for (kind, gauge) in [("mutating", &self.writes), ("readOnly", &self.reads)] {
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {}", gauge.load(Ordering::Relaxed));
        }
    }
}
