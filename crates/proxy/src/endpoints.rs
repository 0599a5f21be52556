//! Which endpoints take a port's traffic: readiness, hints and locality. Pure; the rules are those of Kubernetes' proxy.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::Endpoint as SliceEndpoint;

use crate::model::{Endpoint, Place};

/// An endpoint with what decides whether it is used.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) endpoint: Endpoint,
    pub(crate) ready: bool,
    /// Ending, but still serving: used while there is nothing better.
    ending: bool,
    /// Whether its hints name this node, and this zone; `None` without hints of that sort.
    for_node: Option<bool>,
    for_zone: Option<bool>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// For traffic that may go anywhere.
    pub(crate) cluster: BTreeSet<Endpoint>,
    /// For traffic that must stay on this node.
    pub(crate) local: BTreeSet<Endpoint>,
    /// Whether there is any usable endpoint, wherever.
    pub(crate) any: bool,
}

impl Candidate {
    /// Reads one endpoint of a slice; `None` if its address is none.
    pub(crate) fn read(from: &SliceEndpoint, port: u16, place: &Place) -> Option<Self> {
        let ip = from.addresses.first()?.parse().ok()?;
        let conditions = from.conditions.as_ref();
        let hints = from.hints.as_ref();
        let nodes = hints.and_then(|h| h.for_nodes.as_ref()).filter(|names| !names.is_empty());
        let zones = hints.and_then(|h| h.for_zones.as_ref()).filter(|names| !names.is_empty());
        // An unknown readiness counts as ready, an unknown serving as serving (API reference, EndpointConditions).
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(true);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        Some(Self {
            endpoint: Endpoint { ip, port, local: from.node_name.as_deref() == Some(&place.node) },
            ready,
            ending: !ready && serving && terminating,
            for_node: nodes.map(|names| names.iter().any(|hint| hint.name == place.node)),
            for_zone: zones.map(|names| names.iter().any(|hint| hint.name == place.zone)),
        })
    }
}

/// Chooses among a port's candidates.
pub(crate) fn choose(candidates: &[Candidate], place: &Place) -> Chosen {
    let near = nearness(candidates, place);
    let pick = |wanted: &dyn Fn(&Candidate) -> bool| -> BTreeSet<Endpoint> {
        candidates.iter().filter(|c| wanted(c)).map(|c| c.endpoint.clone()).collect()
    };
    let or_ending = |ready: BTreeSet<Endpoint>, ending: &dyn Fn(&Candidate) -> bool| {
        if ready.is_empty() { pick(ending) } else { ready }
    };
    Chosen {
        cluster: or_ending(pick(&|c| c.ready && near(c)), &|c| c.ending),
        local: or_ending(pick(&|c| c.ready && c.endpoint.local), &|c| c.ending && c.endpoint.local),
        any: candidates.iter().any(|c| c.ready || c.ending),
    }
}

/// Hints hold only when every ready endpoint has them and one is meant for here; the node's go before the zone's.
fn nearness(candidates: &[Candidate], place: &Place) -> fn(&Candidate) -> bool {
    let whole = |hint: fn(&Candidate) -> Option<bool>| {
        let mut ready = candidates.iter().filter(|c| c.ready).map(hint).peekable();
        let mut one = false;
        ready.peek().is_some() && ready.all(|hint| hint.inspect(|here| one |= here).is_some()) && one
    };
    if whole(|c| c.for_node) {
        |c| c.for_node == Some(true)
    } else if !place.zone.is_empty() && whole(|c| c.for_zone) {
        |c| c.for_zone == Some(true)
    } else {
        |_| true
    }
}
