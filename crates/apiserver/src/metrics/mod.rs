//! What the server counts, in Prometheus' text form, under the names and labels that Kubernetes dashboards query.
//!
//! - Counting is one look-up and some atomic additions. [`Counter`]s can be held by streams.
//! - Label values come from the table of kinds and from closed sets, never from free client text: the number of series
//!   is bounded.
//! - Other parts add their own lines with [`Metrics::register`].

mod request;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
pub use request::{Dimensions, InFlight, Requests};
use store::{StoreTimes, Timed};
pub use store::{render_objects, render_size};
use tiphys_api::Gvr;
use tiphys_client::metrics::{Attempts, Counters, Histograms, process};
pub use tiphys_client::metrics::{Counter, Histogram, header, line};
use tiphys_store::Store;

type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// Bytes, as kube-apiserver's histogram of event sizes has them.
const EVENT_BUCKETS: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// What is counted of the events of one resource.
pub struct WatchEvents {
    count: Counter,
    sizes: Arc<Histogram>,
}

impl WatchEvents {
    /// Counts an event of so many bytes.
    pub fn sent(&self, bytes: usize) {
        self.count.add(1);
        self.sizes.observe(bytes as f64);
    }
}

/// All of the server's metrics.
pub struct Metrics {
    /// What is counted of each request.
    pub requests: Requests,
    /// Who asks: known or not.
    pub authentication: Attempts,
    /// May they: yes or no.
    pub authorization: Attempts,
    watch_events: Counters,
    watch_sizes: Histograms,
    store: Arc<StoreTimes>,
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
            authentication: Attempts::new(
                "authentication_attempts",
                "Requests whose sender was to be told.",
                "success",
                "failure",
            ),
            authorization: Attempts::new(
                "authorization_attempts_total",
                "Requests that were to be allowed.",
                "allowed",
                "denied",
            ),
            watch_events: Counters::new("apiserver_watch_events_total", "Events sent to watchers."),
            watch_sizes: Histograms::new(
                "apiserver_watch_events_sizes",
                "Size of events sent to watchers, in bytes.",
                EVENT_BUCKETS,
            ),
            store: Arc::default(),
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

    /// What counts the events sent to watchers of a resource.
    pub fn watch_events(&self, gvr: &Gvr) -> WatchEvents {
        let Gvr { group, version, resource } = gvr;
        let labels = format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\"");
        WatchEvents { count: self.watch_events.with(&labels), sizes: self.watch_sizes.with(&labels) }
    }

    /// The same store, its calls timed.
    pub fn timed(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Timed::new(store, self.store.clone()))
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
        self.authentication.render(&mut out);
        self.authorization.render(&mut out);
        self.watch_events.render(&mut out);
        self.watch_sizes.render(&mut out);
        self.store.render(&mut out);
        header(&mut out, "kubernetes_build_info", "gauge", "The version of this server.");
        line(&mut out, "kubernetes_build_info", &crate::version::labels(&self.version), 1);
        process::render(&mut out);
        for source in self.sources.lock().iter() {
            source(&mut out);
        }
        out
    }
}
