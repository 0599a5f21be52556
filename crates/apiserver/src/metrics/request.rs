//! What is counted about each request: one look-up finds everything that its kind of request is counted in.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tiphys_api::schema::Resource;

use tiphys_client::metrics::{Counter, GaugeGuard, Histogram, header, line};

/// Seconds, as kube-apiserver's request histogram has them.
const REQUEST_BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// Bytes, as kube-apiserver's response size histogram has them.
const SIZE_BUCKETS: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// What a request is counted under: only names from the table of kinds and closed sets.
#[derive(Clone, Debug, Default)]
pub struct Dimensions {
    /// `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `APPLY`, `DELETE`, `DELETECOLLECTION`, `CONNECT`.
    pub verb: &'static str,
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// The resource; `None` for other paths.
    pub resource: Option<Arc<Resource>>,
    /// Which of the resource's subresources.
    pub subresource: Option<usize>,
    /// The served path, for what is no resource.
    pub path: &'static str,
    /// `cluster`, `namespace`, `resource` or empty.
    pub scope: &'static str,
}

type Key<'a> = (&'static str, bool, Option<&'a tiphys_api::Gvr>, Option<usize>, &'static str, &'static str);

impl Dimensions {
    fn key(&self) -> Key<'_> {
        let gvr = self.resource.as_ref().map(|resource| &resource.gvr);
        (self.verb, self.dry_run, gvr, self.subresource, self.path, self.scope)
    }

    /// The subresource's name; for other paths the path.
    pub fn subresource(&self) -> &str {
        match (&self.resource, self.subresource) {
            (Some(resource), Some(at)) => resource.subresources.get(at).map_or("", |sub| sub.name.as_ref()),
            (Some(_), None) => "",
            (None, _) => self.path,
        }
    }

    fn labels(&self) -> String {
        let (group, version, resource) = match &self.resource {
            Some(resource) => {
                (resource.gvr.group.as_ref(), resource.gvr.version.as_ref(), resource.gvr.resource.as_ref())
            }
            None => ("", "", ""),
        };
        let (verb, scope, subresource) = (self.verb, self.scope, self.subresource());
        let dry_run = if self.dry_run { "All" } else { "" };
        format!(
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{group}\",resource=\"{resource}\",\
             scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

impl PartialEq for Dimensions {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Dimensions {}

impl Hash for Dimensions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// All that is counted of requests of the same dimensions.
struct Series {
    labels: String,
    /// Whether these are watches or connections.
    streams: bool,
    /// Few codes per kind of request: a scan finds one.
    codes: RwLock<Vec<(u16, Counter)>>,
    terminated: RwLock<Vec<(u16, Counter)>>,
    durations: Histogram,
    sizes: Histogram,
    long_running: Arc<AtomicI64>,
}

impl Series {
    fn new(dimensions: &Dimensions) -> Self {
        Self {
            labels: dimensions.labels(),
            streams: matches!(dimensions.verb, "WATCH" | "CONNECT"),
            codes: RwLock::default(),
            terminated: RwLock::default(),
            durations: Histogram::new(REQUEST_BUCKETS),
            sizes: Histogram::new(SIZE_BUCKETS),
            long_running: Arc::default(),
        }
    }
}

fn count(codes: &RwLock<Vec<(u16, Counter)>>, code: u16) {
    if let Some((_, counter)) = codes.read().iter().find(|(known, _)| *known == code) {
        return counter.add(1);
    }
    let mut codes = codes.write();
    match codes.iter().find(|(known, _)| *known == code) {
        Some((_, counter)) => counter.add(1),
        None => {
            let counter = Counter::default();
            counter.add(1);
            codes.push((code, counter));
        }
    }
}

/// A stream or request that is counted as long as this lives.
#[derive(Debug)]
pub struct InFlight {
    _held: GaugeGuard,
}

impl InFlight {
    /// Raises a gauge.
    pub fn raise(gauge: &Arc<AtomicI64>) -> Self {
        Self { _held: GaugeGuard::raise(gauge) }
    }
}

/// Everything counted of requests.
#[derive(Default)]
pub struct Requests(RwLock<HashMap<Dimensions, Arc<Series>>>);

impl Requests {
    fn series(&self, dimensions: &Dimensions) -> Arc<Series> {
        if let Some(series) = self.0.read().get(dimensions) {
            return series.clone();
        }
        let new = || Arc::new(Series::new(dimensions));
        self.0.write().entry(dimensions.clone()).or_insert_with(new).clone()
    }

    /// Counts a stream while it lasts.
    pub fn long_running(&self, dimensions: &Dimensions) -> InFlight {
        InFlight::raise(&self.series(dimensions).long_running)
    }

    /// Counts an answered request. `size` is the body's length where known.
    pub fn answered(&self, dimensions: &Dimensions, code: u16, took: Duration, size: Option<u64>) {
        let series = self.series(dimensions);
        count(&series.codes, code);
        series.durations.observe(took.as_secs_f64());
        if let Some(size) = size {
            series.sizes.observe(size as f64);
        }
    }

    /// Takes the size of an answer that is known only at its end.
    pub fn sizes(&self, dimensions: &Dimensions) -> impl FnOnce(usize) + Send + use<> {
        let series = self.series(dimensions);
        move |size| series.sizes.observe(size as f64)
    }

    /// Counts a request that was turned away or cut off in self-defence.
    pub fn terminated(&self, dimensions: &Dimensions, code: u16) {
        count(&self.series(dimensions).terminated, code);
    }

    /// Writes all series, in the order of their labels.
    pub fn render(&self, out: &mut String) {
        let mut all: Vec<Arc<Series>> = self.0.read().values().cloned().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let name = "apiserver_longrunning_requests";
        header(out, name, "gauge", "Streams and watches that are open now.");
        for series in &all {
            line(out, name, &series.labels, series.long_running.load(Ordering::Relaxed));
        }
        let name = "apiserver_request_duration_seconds";
        header(out, name, "histogram", "Time from a request's head to its answer's, in seconds.");
        all.iter().for_each(|series| series.durations.render(out, name, &series.labels));
        let name = "apiserver_request_sli_duration_seconds";
        header(out, name, "histogram", "The same for requests that are answered at once, without streams.");
        let at_once = all.iter().filter(|series| !series.streams);
        at_once.for_each(|series| series.durations.render(out, name, &series.labels));
        let name = "apiserver_response_sizes";
        header(out, name, "histogram", "Size of answers whose length is known beforehand, in bytes.");
        all.iter().for_each(|series| series.sizes.render(out, name, &series.labels));
        let name = "apiserver_request_total";
        header(out, name, "counter", "Requests answered, by HTTP code.");
        all.iter().for_each(|series| render_codes(out, name, series, &series.codes));
        let name = "apiserver_request_terminations_total";
        header(out, name, "counter", "Requests turned away or cut off in self-defence.");
        all.iter().for_each(|series| render_codes(out, name, series, &series.terminated));
    }
}

fn render_codes(out: &mut String, name: &str, series: &Series, codes: &RwLock<Vec<(u16, Counter)>>) {
    for (code, counter) in codes.read().iter() {
        line(out, name, &format!("code=\"{code}\",{}", series.labels), counter.get());
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::{Gvr, schema};

    use super::*;

    #[test]
    fn a_request_is_counted_under_kubernetes_names() {
        let requests = Requests::default();
        let resource = schema::builtin().get(&Gvr::new("", "v1", "pods")).cloned();
        let dimensions = Dimensions { verb: "LIST", resource, scope: "cluster", ..Dimensions::default() };
        requests.answered(&dimensions, 200, Duration::from_millis(3), Some(10));
        requests.answered(&dimensions, 200, Duration::from_millis(30), None);
        let open = requests.long_running(&dimensions);
        let mut text = String::new();
        requests.render(&mut text);
        drop(open);
        let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"cluster\",\
                      subresource=\"\",verb=\"LIST\",version=\"v1\"";
        for expected in [
            format!("apiserver_request_total{{code=\"200\",{labels}}} 2\n"),
            format!("apiserver_longrunning_requests{{{labels}}} 1\n"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1\n"),
            format!("apiserver_response_sizes_count{{{labels}}} 1\n"),
        ] {
            assert!(text.contains(&expected), "{expected}\n{text}");
        }
    }
}
