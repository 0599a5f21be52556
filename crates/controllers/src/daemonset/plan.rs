//! What a DaemonSet needs on every node: pods to create and delete, and its status. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use tiphys_api::Object;

use crate::affinity;
use crate::deployment::view::scaled;
use crate::history::REVISION_LABEL;
use crate::node::view::NodeView;
use crate::pods::{Facts, Phase};
use crate::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NO_EXECUTE, NO_SCHEDULE, NOT_READY, PID_PRESSURE,
    Taint, Toleration, UNREACHABLE, UNSCHEDULABLE,
};

/// Most pods that one pass creates or deletes.
const BURST: usize = 250;

/// What a node says about a set's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A pod should be created there.
    pub(super) run: bool,
    /// A pod that is there may stay.
    pub(super) stay: bool,
}

/// A set, its pods by the node they are for, and the nodes.
pub(super) struct Snapshot<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) pods: BTreeMap<String, Vec<Arc<Facts>>>,
    pub(super) places: &'a HashMap<Box<str>, Place>,
    /// Hash of the present template.
    pub(super) hash: &'a str,
    /// Until when failed pods stay on a node.
    pub(super) resting: &'a BTreeMap<String, Timestamp>,
    pub(super) now: Timestamp,
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes to create a pod for.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Facts>>,
    /// Ended pods among those to delete, with the reason to tell.
    pub(super) ended: Vec<(Arc<Facts>, &'static str)>,
    /// When the first of the failed pods that stay for now may go.
    pub(super) again: Option<Timestamp>,
}

/// The tolerations that every pod of a set gets.
pub(super) fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = vec![
        Toleration::exists(NOT_READY, NO_EXECUTE),
        Toleration::exists(UNREACHABLE, NO_EXECUTE),
        Toleration::exists(DISK_PRESSURE, NO_SCHEDULE),
        Toleration::exists(MEMORY_PRESSURE, NO_SCHEDULE),
        Toleration::exists(PID_PRESSURE, NO_SCHEDULE),
        Toleration::exists(UNSCHEDULABLE, NO_SCHEDULE),
    ];
    if spec.host_network == Some(true) {
        all.push(Toleration::exists(NETWORK_UNAVAILABLE, NO_SCHEDULE));
    }
    all
}

/// Whether a set's pod belongs on a node.
pub(super) fn place(spec: &PodSpec, tolerations: &[Toleration], node: &Object) -> Place {
    let named = spec.node_name.as_deref().is_none_or(|name| name.is_empty() || *name == *node.meta().name);
    if !named || !affinity::fits(spec, node.meta()) {
        return Place { run: false, stay: false };
    }
    let taints = node.decode::<NodeView>().ok().and_then(|view| view.spec.taints).unwrap_or_default();
    let open = |taint: &&Taint| !tolerations.iter().any(|toleration| toleration.tolerates(taint));
    let open: Vec<&str> = taints.iter().filter(open).map(|taint| taint.effect.as_str()).collect();
    let stay = !open.contains(&NO_EXECUTE);
    Place { run: stay && !open.contains(&NO_SCHEDULE), stay }
}

#[derive(Deserialize)]
struct Target {
    spec: Option<PodSpec>,
}

/// The node that a pod is on, or is meant for.
pub(super) fn target(pod: &Facts) -> Option<String> {
    if !pod.node.is_empty() {
        return Some(pod.node.to_string());
    }
    let spec = pod.object.decode::<Target>().ok()?.spec?;
    let required = spec.affinity?.node_affinity?.required_during_scheduling_ignored_during_execution?;
    let fields = required.node_selector_terms.into_iter().next()?.match_fields?;
    fields.into_iter().find(|field| field.key == "metadata.name")?.values?.into_iter().next()
}

pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut plan = Plan::default();
    let none = Vec::new();
    let nodes: BTreeSet<&str> = snapshot
        .places
        .iter()
        .filter(|(_, place)| place.run)
        .map(|(name, _)| name.as_ref())
        .chain(snapshot.pods.keys().map(String::as_str))
        .collect();
    for node in nodes {
        let pods = snapshot.pods.get(node).unwrap_or(&none);
        let place = snapshot.places.get(node).copied().unwrap_or(Place { run: false, stay: false });
        on_node(snapshot, node, place, pods, &mut plan);
    }
    if !Update::of(snapshot.set).on_delete {
        update(snapshot, &mut plan);
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// One pod per node where one belongs, none elsewhere; ended ones make room.
fn on_node(snapshot: &Snapshot<'_>, node: &str, place: Place, pods: &[Arc<Facts>], plan: &mut Plan) {
    if !place.stay {
        plan.delete.extend(pods.iter().filter(|pod| !pod.deleting()).cloned());
        return;
    }
    let surge = Update::of(snapshot.set).surges;
    // With surge, a pod on its way out keeps no place.
    if place.run && pods.iter().all(|pod| surge && pod.deleting()) {
        plan.create.push(node.to_owned());
        return;
    }
    remove_ended(snapshot, node, pods, plan);
    let mut running: Vec<&Arc<Facts>> = pods.iter().filter(|pod| pod.active()).collect();
    // Of several, the one that serves stays.
    running.sort_by_key(|pod| (!available(snapshot, pod), pod.meta().created));
    let (news, olds): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| is_new(snapshot, pod));
    let keep = match (news.first(), olds.first()) {
        (None, _) => true,
        // With surge, an old pod that serves stays beside a new one until that is available.
        (Some(new), Some(old)) => surge && old.ready() && !available(snapshot, new),
        (Some(_), None) => false,
    };
    plan.delete.extend(news.into_iter().skip(1).cloned());
    plan.delete.extend(olds.into_iter().skip(usize::from(keep)).cloned());
}

/// Removes pods that have ended; of failed ones, at most one in a pause that grows.
fn remove_ended(snapshot: &Snapshot<'_>, node: &str, pods: &[Arc<Facts>], plan: &mut Plan) {
    for pod in pods.iter().filter(|pod| pod.ended() && !pod.deleting()) {
        if pod.phase != Phase::Failed {
            plan.ended.push((pod.clone(), "SucceededDaemonPod"));
            continue;
        }
        match snapshot.resting.get(node).filter(|until| **until > snapshot.now) {
            Some(until) => plan.again = Some(plan.again.map_or(*until, |known| known.min(*until))),
            None => plan.ended.push((pod.clone(), "FailedDaemonPod")),
        }
    }
}

fn is_new(snapshot: &Snapshot<'_>, pod: &Facts) -> bool {
    pod.meta().labels.get(REVISION_LABEL) == Some(snapshot.hash)
}

fn available(snapshot: &Snapshot<'_>, pod: &Facts) -> bool {
    let min_ready = snapshot.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    pod.available(min_ready, snapshot.now)
}

/// How a set's pods are replaced.
struct Update {
    on_delete: bool,
    surges: bool,
    max_surge: IntOrString,
    max_unavailable: IntOrString,
}

impl Update {
    fn of(set: &DaemonSet) -> Self {
        let default = DaemonSetSpec::default();
        let strategy = set.spec.as_ref().unwrap_or(&default).update_strategy.clone().unwrap_or_default();
        let rolling = strategy.rolling_update.unwrap_or_default();
        let max_surge = rolling.max_surge.unwrap_or(IntOrString::Int(0));
        let surges = !matches!(&max_surge, IntOrString::Int(0)) && scaled(&max_surge, 100, true) > 0;
        Self {
            on_delete: strategy.type_.as_deref() == Some("OnDelete"),
            surges,
            max_surge,
            max_unavailable: rolling.max_unavailable.unwrap_or(IntOrString::Int(1)),
        }
    }
}

/// Replaces old pods: the ones that are not available anyway at once, the others as far as the limits go. What is not
/// available counts against the limit whatever its version.
fn update(snapshot: &Snapshot<'_>, plan: &mut Plan) {
    let update = Update::of(snapshot.set);
    let wanted: Vec<&Box<str>> =
        snapshot.places.iter().filter(|(_, p)| p.run).map(|(name, _)| name).collect();
    let total = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let limit = scaled(if update.surges { &update.max_surge } else { &update.max_unavailable }, total, true);
    let (mut used, mut now, mut candidates) = (0, Vec::new(), Vec::new());
    let mut names: Vec<&str> = wanted.into_iter().map(AsRef::as_ref).collect();
    names.sort_unstable();
    for node in names {
        let pods = snapshot.pods.get(node).map(Vec::as_slice).unwrap_or_default();
        let active = pods.iter().filter(|pod| pod.active());
        let (news, olds): (Vec<_>, Vec<_>) = active.partition(|pod| is_new(snapshot, pod));
        match (news.first(), olds.as_slice()) {
            (None, [old]) if !available(snapshot, old) => {
                used += i32::from(!update.surges);
                now.push((node, *old));
            }
            (None, [old]) => candidates.push((node, *old)),
            (Some(new), []) if update.surges || available(snapshot, new) => {}
            (_, [_, ..]) if update.surges => used += 1,
            // Nothing runs there, or not yet.
            _ => used += i32::from(!update.surges),
        }
    }
    let room = usize::try_from(limit - used).unwrap_or(0);
    let chosen = now.into_iter().chain(candidates.into_iter().take(room));
    for (node, old) in chosen {
        match update.surges {
            true => plan.create.push(node.to_owned()),
            false => plan.delete.push(old.clone()),
        }
    }
}

pub(super) fn status(snapshot: &Snapshot<'_>, collisions: Option<i32>) -> DaemonSetStatus {
    let set = snapshot.set;
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: collisions,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut ready_and_available) = (0, 0);
    for (node, place) in snapshot.places {
        let pods = snapshot.pods.get(node.as_ref()).into_iter().flatten();
        // The oldest stands for its node; one that is on its way out and has ended stands for nothing.
        let first = pods.filter(|pod| !(pod.ended() && pod.deleting())).min_by_key(|pod| pod.meta().created);
        if !place.run {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(first) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(first.ready());
        ready_and_available += i32::from(available(snapshot, first));
        updated += i32::from(is_new(snapshot, first));
    }
    let some = |count: i32| Some(count).filter(|n| *n != 0);
    status.updated_number_scheduled = some(updated);
    status.number_available = some(ready_and_available);
    status.number_unavailable = some(status.desired_number_scheduled - ready_and_available);
    status
}
