//! `metrics.k8s.io`: what nodes and pods use now, asked of the kubelets when somebody asks
//! ([decision](../../../../docs/decisions/metrics.md)).
//!
//! - Usage is the difference of two readings of a kubelet's `/metrics/resource`. The one before serves if it is not old;
//!   else two are taken a moment apart. Nothing is read while nobody asks.
//! - A reading serves all who ask within [`FRESH`], and one is under way per node at most: many clients cost a kubelet no more
//!   than one.
//! - For pods, only the nodes that they run on are asked. A node that does not answer is left out, as its figures are unknown.

mod scrape;
mod usage;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tiphys_api::schema::{Resource, builtin};
use tiphys_api::{Gvr, Meta, Object, Status, Value};
use tokio::time::Instant;

use crate::auth::Lister;
use crate::cache::Selection;
use crate::http::path::RequestInfo;
use crate::node_proxy::NodeProxy;
use scrape::Scrape;

/// The API's group.
pub const GROUP: &str = "metrics.k8s.io";

const PODS: Gvr = Gvr::new("", "v1", "pods");
const NODES: Gvr = Gvr::new("", "v1", "nodes");
const PATH: &str = "/metrics/resource";
/// How long a reading serves those who ask.
const FRESH: Duration = Duration::from_secs(5);
/// Readings further apart than this tell nothing about now.
const LONG_AGO: Duration = Duration::from_secs(60);
/// Between two readings where there was none before.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a kubelet may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Kubelets asked at once.
const AT_ONCE: usize = 64;

/// Whether a request is answered here.
pub fn serves(info: &RequestInfo) -> bool {
    info.is_resource && info.group == GROUP
}

/// What a list's selectors ask for.
pub fn selection(
    resource: &Resource,
    info: &RequestInfo,
    labels: &str,
    fields: &str,
) -> Result<Selection, Status> {
    Selection::parse(resource, &info.namespace, &info.name, labels, fields)
}

/// Two readings of one kubelet.
type Pair = Arc<(Scrape, Scrape)>;

/// What is kept of one kubelet.
#[derive(Default)]
struct Kept {
    last: Option<(Instant, Scrape)>,
    pair: Option<Pair>,
    /// When it was last asked in vain: who asks soon after does not wait for it again.
    silent: Option<Instant>,
}

/// A kubelet's readings; whoever holds the lock asks it.
type Slot = Arc<tokio::sync::Mutex<Kept>>;

/// Asks kubelets.
pub struct NodeMetrics {
    nodes: NodeProxy,
    lister: Arc<dyn Lister>,
    slots: Mutex<HashMap<Box<str>, Slot>>,
}

impl NodeMetrics {
    /// Asks the kubelets of these nodes.
    pub fn new(nodes: NodeProxy, lister: Arc<dyn Lister>) -> Self {
        Self { nodes, lister, slots: Mutex::default() }
    }

    /// One `NodeMetrics` or `PodMetrics`.
    pub async fn get(&self, resource: &Resource, info: &RequestInfo) -> Result<Object, Status> {
        let selection = selection(resource, info, "", "")?;
        let found = self.list(info, &selection).await?.pop();
        let (resource, name) = match info.resource.as_str() {
            "nodes" => ("nodemetrics", info.name.clone()),
            _ => ("podmetrics", format!("{}/{}", info.namespace, info.name)),
        };
        found.ok_or_else(|| Status::not_found(&Gvr::new(GROUP, "v1beta1", resource), &name))
    }

    /// All that are selected, in the order of their names.
    pub async fn list(&self, info: &RequestInfo, selection: &Selection) -> Result<Vec<Object>, Status> {
        let values = match info.resource.as_str() {
            "nodes" => self.of_nodes(selection).await,
            _ => self.of_pods(selection).await,
        };
        values.iter().map(|value| Object::from_value(value).map_err(Status::internal)).collect()
    }

    async fn of_nodes(&self, selection: &Selection) -> Vec<Value> {
        let nodes = self.selected(&NODES, selection);
        let pairs = self.ask(nodes.clone()).await;
        let told = |node: &Object| {
            let pair = pairs.get(node.meta().name.as_ref() as &str)?;
            usage::of_node(node.meta(), &pair.0, &pair.1)
        };
        nodes.iter().filter_map(told).collect()
    }

    async fn of_pods(&self, selection: &Selection) -> Vec<Value> {
        let pods: Vec<(Object, String)> = self
            .selected(&PODS, selection)
            .into_iter()
            .filter_map(|pod| running_on(&pod).map(|node| (pod, node)))
            .collect();
        let names: BTreeSet<&String> = pods.iter().map(|(_, node)| node).collect();
        let nodes = names.iter().filter_map(|name| self.lister.get(&NODES, "", name)).collect();
        let pairs = self.ask(nodes).await;
        let told = |(pod, node): &(Object, String)| {
            let pair = pairs.get(node.as_str())?;
            usage::of_pod(pod.meta(), &pair.0, &pair.1)
        };
        pods.iter().filter_map(told).collect()
    }

    fn selected(&self, gvr: &Gvr, selection: &Selection) -> Vec<Object> {
        let all = match (selection.name.as_ref(), gvr == &NODES || !selection.namespace.is_empty()) {
            ("", _) | (_, false) => self.lister.list(gvr, &selection.namespace),
            (name, true) => self.lister.get(gvr, &selection.namespace, name).into_iter().collect(),
        };
        let matches = |meta: &Meta| selection.matches(meta);
        all.into_iter().filter(|object| matches(object.meta())).collect()
    }

    /// Readings by node, of those that answer.
    async fn ask(&self, nodes: Vec<Object>) -> HashMap<String, Pair> {
        let asked = nodes.into_iter().map(|node| async move {
            let pair = self.pair(&node).await?;
            Some((node.meta().name.to_string(), pair))
        });
        futures::stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    async fn pair(&self, node: &Object) -> Option<Pair> {
        let slot = self.slot(&node.meta().name);
        let mut kept = slot.lock().await;
        let age = kept.last.as_ref().map(|(at, _)| at.elapsed());
        if let Some(pair) = kept.pair.as_ref().filter(|_| age.is_some_and(|age| age < FRESH)) {
            return Some(pair.clone());
        }
        if kept.silent.is_some_and(|at| at.elapsed() < PATIENCE) {
            return None;
        }
        let earlier = kept.last.take().filter(|(at, _)| at.elapsed() < LONG_AGO);
        kept.pair = self.read(node, earlier).await.map(Arc::new);
        match &kept.pair {
            Some(pair) => (kept.last, kept.silent) = (Some((Instant::now(), pair.1.clone())), None),
            None => kept.silent = Some(Instant::now()),
        }
        kept.pair.clone()
    }

    /// Two readings, the first of them an earlier one where there is one.
    async fn read(&self, node: &Object, earlier: Option<(Instant, Scrape)>) -> Option<(Scrape, Scrape)> {
        let (at, before) = match earlier {
            Some(earlier) => earlier,
            None => (Instant::now(), self.scrape(node).await?),
        };
        tokio::time::sleep_until(at + PAUSE).await;
        Some((before, self.scrape(node).await?))
    }

    fn slot(&self, node: &str) -> Slot {
        let mut slots = self.slots.lock();
        if slots.len() == slots.capacity() && !slots.contains_key(node) {
            // Nodes come and go; what is kept of those that went goes before there is room made for more.
            slots.retain(|name, _| self.lister.get(&NODES, "", name).is_some());
        }
        slots.entry(node.into()).or_default().clone()
    }

    async fn scrape(&self, node: &Object) -> Option<Scrape> {
        match tokio::time::timeout(PATIENCE, self.nodes.read(node, PATH)).await {
            Ok(Ok(text)) => Some(Scrape::parse(&String::from_utf8_lossy(&text))),
            Ok(Err(error)) => {
                tracing::debug!(node = node.meta().name.as_ref() as &str, %error, "a kubelet tells no metrics");
                None
            }
            Err(_) => None,
        }
    }
}

/// Where the header of a pod in the cache has its node and its phase: no pod's JSON is read for that.
static PLACES: LazyLock<Option<[usize; 2]>> = LazyLock::new(|| {
    let labels = &builtin().get(&PODS)?.field_labels;
    let place = |path: &str| labels.iter().position(|label| **label == *path);
    Some([place("spec.nodeName")?, place("status.phase")?])
});

/// The node of a pod that runs.
fn running_on(pod: &Object) -> Option<String> {
    let [node, phase] = (*PLACES)?;
    let field = |place: usize| pod.meta().fields.get(place).map(AsRef::<str>::as_ref);
    let node = field(node).filter(|node| !node.is_empty())?;
    (field(phase) == Some("Running")).then(|| node.to_owned())
}
