//! What the proxy tells of itself, as kube-proxy does: at one address whether it keeps up (`/healthz`, `/livez`), at another its
//! figures (`/metrics`). Other clusters' proxies may have had the addresses first; that keeps no rule from being written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use jiff::Timestamp;
use parking_lot::Mutex;
use tiphys_client::metrics::{self, Counters, Histograms, process};
use tiphys_network::LOOK;
use tiphys_network::command::Family;
use tokio::net::TcpListener;

use crate::http::{Answer, json, serve, text};

/// Changes that have waited so long are a proxy's that does not keep up: as kube-proxy's, two rounds and more.
const LATE: Duration = Duration::from_secs(120);

/// Upper limits of durations in seconds, doubling from a millisecond.
const BUCKETS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];

/// What is known of this proxy.
pub(crate) struct Status {
    /// Since when changes wait to be written.
    waiting: Mutex<Option<Instant>>,
    updated: Mutex<Timestamp>,
    /// Whether load balancers may send to this node: it is neither deleted nor about to be.
    pub(crate) eligible: AtomicBool,
    syncs: Histograms,
    full: Histograms,
    partial: Histograms,
    failures: Counters,
    /// When a family's rules were last written, seconds since 1970.
    last: Mutex<BTreeMap<Family, f64>>,
    queued: Mutex<f64>,
    asked: [Counters; 2],
}

impl Status {
    /// Of a proxy that has just started: healthy.
    pub(crate) fn new() -> Self {
        let histogram = |name, help| Histograms::new(name, help, BUCKETS);
        Self {
            waiting: Mutex::default(),
            updated: Mutex::new(Timestamp::now()),
            eligible: AtomicBool::new(true),
            syncs: histogram(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Latency of one round of writing rules.",
            ),
            full: histogram(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "Latency of one round of writing all rules.",
            ),
            partial: histogram(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "Latency of one round of writing the rules that changed.",
            ),
            failures: Counters::new(
                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
                "Rounds of writing rules that failed.",
            ),
            last: Mutex::default(),
            queued: Mutex::new(0.0),
            asked: [
                Counters::new("kubeproxy_proxy_healthz_total", "Answers to questions for the node's health."),
                Counters::new("kubeproxy_proxy_livez_total", "Answers to questions for the proxy's health."),
            ],
        }
    }

    /// Notes that changes wait.
    pub(crate) fn queued(&self) {
        self.waiting.lock().get_or_insert_with(Instant::now);
        *self.queued.lock() = seconds();
    }

    /// Notes that all changes are written.
    pub(crate) fn updated(&self) {
        *self.waiting.lock() = None;
        *self.updated.lock() = Timestamp::now();
    }

    /// Notes one round of writing a family's rules, all or some of them.
    pub(crate) fn wrote(&self, family: Family, all: bool, took: Duration) {
        let labels = label(family);
        for histograms in [&self.syncs, if all { &self.full } else { &self.partial }] {
            histograms.with(labels).observe(took.as_secs_f64());
        }
        self.last.lock().insert(family, seconds());
    }

    /// Notes one that failed.
    pub(crate) fn failed(&self, family: Family) {
        self.failures.with(label(family)).add(1);
    }

    /// Tells whether the proxy keeps up, and with `node` also whether load balancers may send here.
    fn health(&self, node: bool, now: Instant) -> Answer {
        let late = self.waiting.lock().is_some_and(|since| now.duration_since(since) >= LATE);
        let eligible = self.eligible.load(Ordering::Relaxed);
        let healthy = !late && (eligible || !node);
        let time = Timestamp::now();
        let updated = if healthy { time } else { *self.updated.lock() };
        let tail = if node { format!(", \"nodeEligible\": {eligible}") } else { String::new() };
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let [healthz, livez] = &self.asked;
        let asked = if node { healthz } else { livez };
        asked.with(&format!("code=\"{}\"", status.as_u16())).add(1);
        json(status, format!("{{\"lastUpdated\": \"{updated}\",\"currentTime\": \"{time}\"{tail}}}"))
    }

    fn metrics(&self) -> String {
        let mut out = String::new();
        for histograms in [&self.syncs, &self.full, &self.partial] {
            histograms.render(&mut out);
        }
        self.failures.render(&mut out);
        self.asked.iter().for_each(|asked| asked.render(&mut out));
        let (last, queued) = (
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        );
        metrics::header(&mut out, last, "gauge", "When rules were last written.");
        for (family, time) in self.last.lock().iter() {
            metrics::line(&mut out, last, label(*family), time);
        }
        metrics::header(&mut out, queued, "gauge", "When a change of rules was last asked for.");
        metrics::line(&mut out, queued, "", *self.queued.lock());
        process::render(&mut out);
        out
    }
}

fn label(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip_family=\"IPv4\"",
        Family::V6 => "ip_family=\"IPv6\"",
    }
}

fn seconds() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64())
}

/// Tells health at one address and figures at another, until dropped.
pub(crate) async fn tell(status: Arc<Status>, healthz: Option<SocketAddr>, metrics: Option<SocketAddr>) {
    let of_health = status.clone();
    let health = at(healthz, "health", move |path| match path {
        "/healthz" => of_health.health(true, Instant::now()),
        "/livez" => of_health.health(false, Instant::now()),
        _ => nothing(),
    });
    let figures = at(metrics, "figures", move |path| match path {
        "/metrics" => text(StatusCode::OK, status.metrics()),
        "/healthz" => text(StatusCode::OK, "ok".into()),
        "/proxyMode" => text(StatusCode::OK, "iptables".into()),
        _ => nothing(),
    });
    tokio::join!(health, figures);
}

fn nothing() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n".into())
}

/// Answers at an address, once it can be had.
async fn at(
    address: Option<SocketAddr>,
    what: &str,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) {
    let Some(address) = address else { return };
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => tracing::warn!(%address, %error, "the proxy's {what} cannot be told; trying again"),
        }
        tokio::time::sleep(LOOK).await;
    };
    serve(listener, answer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_does_not_keep_up_is_unhealthy_and_a_node_that_goes_too() {
        let (status, now) = (Status::new(), Instant::now());
        let codes = |at: Instant| [true, false].map(|node| status.health(node, at).status().as_u16());
        assert_eq!(codes(now), [200, 200]);
        status.queued();
        assert_eq!(codes(now + LATE / 2), [200, 200]);
        assert_eq!(codes(now + LATE * 2), [503, 503]);
        status.updated();
        assert_eq!(codes(now + LATE * 2), [200, 200]);
        status.eligible.store(false, Ordering::Relaxed);
        assert_eq!(codes(now), [503, 200]);
        let told = status.metrics();
        for line in
            ["kubeproxy_proxy_healthz_total{code=\"503\"} 2", "kubeproxy_proxy_livez_total{code=\"200\"} 4"]
        {
            assert!(told.contains(line), "{line} in {told}");
        }
    }
}
