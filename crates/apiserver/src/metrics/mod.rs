//! What the server counts, in Prometheus' text form, under the names and labels that Kubernetes dashboards query.
//!
//! - Counting is one look-up and some atomic additions. [`Counter`]s can be held by streams.
//! - Label values come from the table of kinds and from closed sets, never from free client text: the number of series
//!   is bounded.
//! - Other parts add their own lines with [`Metrics::register`].

mod family;
mod process;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use family::Counters;
pub use family::{Counter, header, line};
use parking_lot::Mutex;
pub use request::{Dimensions, InFlight, Requests};

type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// All of the server's metrics.
pub struct Metrics {
    /// What is counted of each request.
    pub requests: Requests,
    watch_events: Counters,
    reads: Arc<AtomicI64>,
    writes: Arc<AtomicI64>,
    version: String,
    sources: Mutex<Vec<Source>>,
}

impl Metrics {
    /// Nothing counted yet. `version` is shown in `kubernetes_build_info`.
    pub fn new(version: &str) -> Self {
        Self {
            requests: Requests::default(),
            watch_events: Counters::new("apiserver_watch_events_total", "Events sent to watchers."),
            reads: Arc::default(),
            writes: Arc::default(),
            version: version.to_owned(),
            sources: Mutex::default(),
        }
    }

    /// Adds lines to every scrape: complete metrics with their `# TYPE` lines ([`header`], [`line`]).
    pub fn register(&self, source: impl Fn(&mut String) + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// Counts a request while it is served, and says how many of its kind there are now, itself included.
    pub fn in_flight(&self, mutating: bool) -> (InFlight, i64) {
        let gauge = if mutating { &self.writes } else { &self.reads };
        let held = InFlight::raise(gauge);
        (held, gauge.load(Ordering::Relaxed))
    }

    /// The counter of events sent to watchers of a resource.
    pub fn watch_events(&self, group: &str, version: &str, resource: &str) -> Counter {
        self.watch_events.with(&format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\""))
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(64 * 1024);
        let name = "apiserver_current_inflight_requests";
        header(&mut out, name, "gauge", "Requests that are being served now.");
        for (kind, gauge) in [("mutating", &self.writes), ("readOnly", &self.reads)] {
            line(&mut out, name, &format!("request_kind=\"{kind}\""), gauge.load(Ordering::Relaxed));
        }
        self.requests.render(&mut out);
        self.watch_events.render(&mut out);
        header(&mut out, "kubernetes_build_info", "gauge", "The version of this server.");
        line(&mut out, "kubernetes_build_info", &format!("git_version=\"{}\"", self.version), 1);
        process::render(&mut out);
        for source in self.sources.lock().iter() {
            source(&mut out);
        }
        out
    }
}
