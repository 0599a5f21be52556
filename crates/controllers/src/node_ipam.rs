//! Gives every node a range of the cluster's pod addresses: the lowest that is free, /24 for IPv4, /64 for IPv6.
//!
//! One worker hands out, so that no range is given twice; what it gave counts at once, whatever the cache shows. Without
//! cluster ranges in the configuration there is nothing to do.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde::Deserialize;
use tiphys_api::{Object, Status, json};
use tiphys_client::typed::{Kind, reference};
use tiphys_client::{Client, Informer, PatchKind, Recorder, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found};

/// A range of addresses that is cut into equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    base: u128,
    /// Bits of an address: 32 or 128.
    width: u32,
    prefix: u32,
    /// Prefix of a part.
    part: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        let (base, width, part) = match address.parse().ok()? {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32, 24),
            IpAddr::V6(ip) => (u128::from(ip), 128, 64),
        };
        let range = Self { base, width, prefix, part: prefix.max(part) };
        (prefix <= width && (range.width - range.part) < 128).then_some(range)
    }

    fn parts(&self) -> u128 {
        1 << (self.part - self.prefix).min(100)
    }

    fn part(&self, index: u128) -> String {
        let base = self.base + (index << (self.width - self.part));
        let ip = match self.width {
            32 => IpAddr::V4((base as u32).into()),
            _ => IpAddr::V6(base.into()),
        };
        format!("{ip}/{}", self.part)
    }

    /// The lowest part that is not taken.
    fn free(&self, taken: &HashSet<String>) -> Option<String> {
        // At most one more than are taken has to be tried.
        let tries = self.parts().min(taken.len() as u128 + 1);
        (0..tries).map(|index| self.part(index)).find(|part| !taken.contains(part))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    nodes: Arc<Informer>,
    ranges: Vec<Range>,
    /// What was given, by the node's uid.
    given: Mutex<HashMap<Box<str>, Vec<String>>>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let ranges: Vec<Range> =
        context.config.cluster_cidrs.iter().filter_map(|text| Range::parse(text)).collect();
    if ranges.is_empty() {
        return;
    }
    let client = context.client("node-controller");
    let recorder = context.recorder(&client, "cidrAllocator");
    let nodes = context.informer(&Node::GVR);
    let queue = WorkQueue::named("node_ipam");
    enqueue_all(&nodes, &queue);
    let given = Mutex::default();
    let controller = Arc::new(Controller { client, recorder, nodes: nodes.clone(), ranges, given });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key.name).await }
    };
    context.work(queue, 1, &[&nodes], reconcile).await;
}

fn has(node: &Object) -> Vec<String> {
    let spec = node.decode::<View>().unwrap_or_default().spec;
    let mut all = spec.pod_cidrs.unwrap_or_default();
    if all.is_empty() && !spec.pod_cidr.is_empty() {
        all.push(spec.pod_cidr);
    }
    all
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Outcome {
        let nodes = self.nodes.list("");
        let alive: HashSet<&str> = nodes.iter().map(|node| node.meta().uid.as_ref()).collect();
        self.given.lock().retain(|uid, _| alive.contains(uid.as_ref()));
        let Some(node) = self.nodes.get("", name).filter(|node| node.meta().deleted.is_none()) else {
            return Ok(None);
        };
        if !has(&node).is_empty() {
            return Ok(None);
        }
        let mut taken: HashSet<String> = nodes.iter().flat_map(has).collect();
        taken.extend(self.given.lock().values().flatten().cloned());
        let known = self.given.lock().get(&node.meta().uid).cloned();
        let parts = known.or_else(|| self.ranges.iter().map(|range| range.free(&taken)).collect());
        let Some(parts) = parts else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.recorder.event(&reference(&Node::GVK, &node), "Normal", "CIDRNotAvailable", message);
            return Err(Status::unavailable("no range of pod addresses is left"));
        };
        self.given.lock().insert(node.meta().uid.clone(), parts.clone());
        let patch = json!({
            "metadata": {"uid": node.meta().uid},
            "spec": {"podCIDR": parts.first(), "podCIDRs": parts},
        });
        let target = Target::new(&Node::GVR, "", name);
        let options = WriteOptions::default();
        let patched = self.client.patch(&target, PatchKind::Merge, patch.to_string().into(), &options).await;
        ignore_not_found(patched.map(drop))?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::testing::{Cluster, typed};
    use tiphys_client::fake::FakeClient;

    #[tokio::test(start_paused = true)]
    async fn every_node_gets_the_lowest_free_range() {
        let client = FakeClient::new();
        client.put::<Node>(&typed(json!({"metadata": {"name": "old"}, "spec": {"podCIDR": "10.42.1.0/24"}})));
        for name in ["a", "b"] {
            client.put::<Node>(&typed(json!({"metadata": {"name": name}})));
        }
        let cidrs = vec!["10.42.0.0/16".to_owned(), "fd00:42::/48".to_owned()];
        let config = Config { cluster_cidrs: cidrs, ..Config::default() };
        let cluster = Cluster::start_with(client.clone(), config);
        cluster.settle().await;
        let range = |name| client.find::<Node>("", name).unwrap().spec.unwrap().pod_cidrs.unwrap_or_default();
        let mut given = [range("a"), range("b")];
        given.sort();
        assert_eq!(given[0], ["10.42.0.0/24", "fd00:42::/64"]);
        assert_eq!(given[1], ["10.42.2.0/24", "fd00:42:0:1::/64"]);
        assert!(range("old").is_empty());
    }

    #[test]
    fn a_full_range_gives_nothing() {
        let range = Range::parse("10.0.0.0/23").unwrap();
        let taken = HashSet::from(["10.0.0.0/24".to_owned()]);
        assert_eq!(range.free(&taken).as_deref(), Some("10.0.1.0/24"));
        let taken = HashSet::from(["10.0.0.0/24".to_owned(), "10.0.1.0/24".to_owned()]);
        assert_eq!(range.free(&taken), None);
    }
}
