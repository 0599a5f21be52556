//! EndpointSlices: which to create, change and delete so that they hold the wanted endpoints. Pure.
//!
//! As little is written as possible: endpoints stay in the slice they are in, new ones fill slices that change anyway,
//! then others with room. A slice holds at most 100.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tiphys_client::typed::Kind;

use super::view::{Family, Group, families, is_headless};

pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const MAX: usize = 100;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<EndpointSlice>,
}

/// A slice under change.
struct Draft {
    slice: EndpointSlice,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// What all slices of one origin have in common.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) labels: BTreeMap<String, String>,
    /// `None` leaves annotations alone.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// Of the Service; slices are named after it.
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) owner: OwnerReference,
}

/// Decides how the service's slices come to hold the groups.
pub(super) fn plan(service: &Service, mut groups: Vec<Group>, existing: Vec<EndpointSlice>) -> Plan {
    for family in families(service) {
        if !groups.iter().any(|group| group.family == family) {
            // Tells that there are no endpoints, as against not known yet.
            groups.push(Group { family, ports: Vec::new(), endpoints: Vec::new() });
        }
    }
    let frame = Frame {
        labels: labels(service),
        annotations: None,
        name: service.name().to_owned(),
        namespace: service.metadata.namespace.clone(),
        owner: service.controller_reference(),
    };
    fill(&frame, groups, existing)
}

/// Decides how slices come to hold the groups, and nothing else.
pub(super) fn fill(frame: &Frame, groups: Vec<Group>, existing: Vec<EndpointSlice>) -> Plan {
    let mut plan = Plan::default();
    let mut left = existing;
    for group in groups {
        let ours = |slice: &mut EndpointSlice| {
            slice.address_type == group.family && slice.ports.as_deref().unwrap_or_default() == group.ports
        };
        let drafts: Vec<EndpointSlice> = left.extract_if(.., ours).collect();
        place(frame, group, drafts, &mut plan);
    }
    plan.delete.append(&mut left);
    plan
}

fn place(frame: &Frame, group: Group, slices: Vec<EndpointSlice>, plan: &mut Plan) {
    let Group { family, ports, endpoints } = group;
    let mut wanted: HashMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    let empty = wanted.is_empty();
    let mut drafts: Vec<Draft> = slices.into_iter().map(|slice| keep(slice, frame, &mut wanted)).collect();
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    rest.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    // Slices that change anyway come first, fuller ones before emptier ones.
    drafts.sort_by_key(|draft| (!draft.changed, std::cmp::Reverse(draft.endpoints.len())));
    for draft in &mut drafts {
        let room = MAX.saturating_sub(draft.endpoints.len()).min(rest.len());
        draft.changed |= room > 0;
        draft.endpoints.extend(rest.drain(..room));
    }
    while !rest.is_empty() {
        let chunk = rest.drain(..rest.len().min(MAX)).collect();
        plan.create.push(new_slice(frame, family, ports.clone(), chunk));
    }
    if empty && drafts.is_empty() {
        plan.create.push(new_slice(frame, family, ports, Vec::new()));
    }
    conclude(drafts, empty, plan);
}

/// Takes out of `wanted` what the slice already holds, in its present form.
fn keep(mut slice: EndpointSlice, frame: &Frame, wanted: &mut HashMap<String, Endpoint>) -> Draft {
    let before = slice.endpoints.take().unwrap_or_default();
    let endpoints: Vec<Endpoint> =
        before.iter().filter_map(|known| wanted.remove(&identity(known))).collect();
    let mut changed = endpoints != before;
    if slice.metadata.labels.as_ref() != Some(&frame.labels) {
        slice.metadata.labels = Some(frame.labels.clone());
        changed = true;
    }
    if let Some(annotations) = &frame.annotations
        && slice.metadata.annotations.clone().unwrap_or_default() != *annotations
    {
        slice.metadata.annotations = Some(annotations.clone());
        changed = true;
    }
    Draft { slice, endpoints, changed }
}

/// Slices without endpoints go, but for one that says so.
fn conclude(drafts: Vec<Draft>, empty: bool, plan: &mut Plan) {
    let mut spare = empty;
    for Draft { slice, endpoints, changed } in drafts {
        let slice = EndpointSlice { endpoints: Some(endpoints), ..slice };
        if slice.endpoints.iter().all(Vec::is_empty) && !std::mem::take(&mut spare) {
            plan.delete.push(slice);
        } else if changed {
            plan.update.push(slice);
        }
    }
}

/// What makes an endpoint the same over time: its pod.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|t| t.uid.clone());
    uid.unwrap_or_else(|| endpoint.addresses.join(","))
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    match is_headless(service) {
        true => labels.insert(HEADLESS.into(), String::new()),
        false => labels.remove(HEADLESS),
    };
    labels
}

fn new_slice(
    frame: &Frame,
    family: Family,
    ports: Vec<k8s_openapi::api::discovery::v1::EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", frame.name)),
            namespace: frame.namespace.clone(),
            labels: Some(frame.labels.clone()),
            annotations: frame.annotations.clone().filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![frame.owner.clone()]),
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        ports: Some(ports),
        endpoints: Some(endpoints),
    }
}
