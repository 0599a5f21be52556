//! What is counted about each request.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use super::Metrics;
use super::family::{Counter, GaugeGuard};

/// What a request is counted under. Texts must come from the table of kinds or closed sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dimensions {
    /// `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `APPLY`, `DELETE`, `DELETECOLLECTION`, `CONNECT`.
    pub verb: &'static str,
    /// `All` on a dry run, else empty.
    pub dry_run: &'static str,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource; for other paths the path's own label.
    pub resource: String,
    /// Subresource; for other paths the path itself when it is a served one.
    pub subresource: String,
    /// `cluster`, `namespace`, `resource` or empty.
    pub scope: &'static str,
}

impl Dimensions {
    fn labels(&self) -> String {
        let Self { verb, dry_run, group, version, resource, subresource, scope } = self;
        let mut text = String::with_capacity(160);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{group}\",resource=\"{resource}\",\
             scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        );
        text
    }
}

/// A request that is being served; the gauge falls when this is dropped.
#[derive(Debug)]
pub struct InFlight {
    _held: GaugeGuard,
}

impl Metrics {
    /// Counts a request while it is served.
    pub fn in_flight(&self, mutating: bool) -> InFlight {
        InFlight { _held: GaugeGuard::raise(self.in_flight_gauge(mutating)) }
    }

    /// How many requests of a kind are being served.
    pub fn in_flight_gauge(&self, mutating: bool) -> &Arc<AtomicI64> {
        if mutating { &self.writes } else { &self.reads }
    }

    /// Counts a stream while it lasts.
    pub fn long_running(&self, dimensions: &Dimensions) -> InFlight {
        InFlight { _held: GaugeGuard::raise(&self.long_running.with(&dimensions.labels())) }
    }

    /// Counts an answered request. `size` is the body's length where known.
    pub fn answered(&self, dimensions: &Dimensions, code: u16, took: Duration, size: Option<u64>) {
        let labels = dimensions.labels();
        self.durations.observe(&labels, took.as_secs_f64());
        if let Some(size) = size {
            self.sizes.observe(&labels, size as f64);
        }
        self.requests.with(&format!("code=\"{code}\",{labels}")).add(1);
    }

    /// Counts a request that was turned away or cut off in self-defence.
    pub fn terminated(&self, dimensions: &Dimensions, code: u16) {
        self.terminations.with(&format!("code=\"{code}\",{}", dimensions.labels())).add(1);
    }

    /// The counter of events sent to watchers of a resource.
    pub fn watch_events(&self, group: &str, version: &str, resource: &str) -> Counter {
        self.watch_events.with(&format!("group=\"{group}\",resource=\"{resource}\",version=\"{version}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_kubernetes_names() {
        let metrics = Metrics::new("v1.36.0");
        let dimensions =
            Dimensions { verb: "LIST", resource: "pods".into(), scope: "cluster", ..Dimensions::default() };
        metrics.answered(&dimensions, 200, Duration::from_millis(3), Some(10));
        let flying = metrics.in_flight(true);
        let text = metrics.render();
        drop(flying);
        for line in [
            "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",\
             scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"\"} 1",
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1",
            "verb=\"LIST\",version=\"\",le=\"0.005\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
