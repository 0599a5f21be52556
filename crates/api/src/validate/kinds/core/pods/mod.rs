//! Pods and pod templates: what relates the parts of one pod spec.
//!
//! - Each rule hangs on a type, so a template is held to the same rules in whatever kind it stands: nothing calls this
//!   from outside but [`mounts_exist`], which needs to know the volumes that a controller adds.
//! - Rules of one struct are with that struct; here are those that look at several containers or at pod-wide fields.

mod container;
mod env;
mod handler;
mod names;
mod resources;
mod scheduling;
mod security;
mod system;
mod volumes;

use super::{
    At, ByText, Check, Fields, Seen, as_value, flag, items, judge, list, number, object, sources, text,
    texts, under,
};
use crate::field::{Error, Errors};
use crate::validate::meta;

pub use volumes::mounts_exist;

/// The checks of the types that make up a pod.
pub const ALL: &[(&str, Check)] = &[
    ("core.v1.AppArmorProfile", security::app_armor),
    ("core.v1.ConfigMapEnvSource", env::named_source),
    ("core.v1.ConfigMapKeySelector", env::key_selector),
    ("core.v1.Container", container::container),
    ("core.v1.ContainerPort", container::port),
    ("core.v1.ContainerRestartRule", container::restart_rule),
    ("core.v1.DownwardAPIVolumeFile", volumes::downward_file),
    ("core.v1.EnvFromSource", env::from_source),
    ("core.v1.EnvVar", env::variable),
    ("core.v1.EphemeralContainer", container::ephemeral),
    ("core.v1.EphemeralVolumeSource", volumes::ephemeral),
    ("core.v1.HTTPHeader", handler::header),
    ("core.v1.HostAlias", system::host_alias),
    ("core.v1.LifecycleHandler", handler::lifecycle_handler),
    ("core.v1.NodeSelector", scheduling::node_selector),
    ("core.v1.NodeSelectorTerm", scheduling::node_selector_term),
    ("core.v1.Pod", pod),
    ("core.v1.PodAffinityTerm", scheduling::affinity_term),
    ("core.v1.PodDNSConfig", system::dns_config),
    ("core.v1.PodReadinessGate", system::readiness_gate),
    ("core.v1.PodResourceClaim", resources::pod_claim),
    ("core.v1.PodSecurityContext", security::pod_context),
    ("core.v1.PodSpec", spec),
    ("core.v1.PodTemplateSpec", template),
    ("core.v1.PreferredSchedulingTerm", scheduling::weight),
    ("core.v1.Probe", handler::probe),
    ("core.v1.ProjectedVolumeSource", sources::projected),
    ("core.v1.ResourceRequirements", resources::requirements),
    ("core.v1.SeccompProfile", security::seccomp),
    ("core.v1.SecretEnvSource", env::named_source),
    ("core.v1.SecretKeySelector", env::key_selector),
    ("core.v1.SecurityContext", security::container_context),
    ("core.v1.Toleration", scheduling::toleration),
    ("core.v1.TopologySpreadConstraint", scheduling::spread),
    ("core.v1.Volume", volumes::volume),
    ("core.v1.VolumeMount", volumes::mount),
    ("core.v1.WeightedPodAffinityTerm", scheduling::weight),
    ("core.v1.WindowsSecurityContextOptions", security::windows_options),
];

/// The lists of a pod's containers, in the order that Kubernetes judges them.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Whether a container of `initContainers` runs beside the others.
fn is_sidecar(container: &Fields) -> bool {
    text(container, "restartPolicy") == "Always"
}

/// Whether a pod spec is a pod's own, not a template's.
fn is_of_pod(at: &At<'_>) -> bool {
    matches!(at, At::Child(At::Root, _))
}

/// What holds for pods and not for templates.
fn pod(at: &At<'_>, pod: &Fields, errors: &mut Errors) {
    let Some(spec) = object(pod, "spec") else { return };
    let place = at.child("spec");
    mounts_exist(&place, spec, &[], errors);
    if let Some(metadata) = object(pod, "metadata") {
        pod_annotations(&at.child("metadata").child("annotations"), metadata, spec, errors);
        volumes::made_claims(&place, spec, text(metadata, "name"), errors);
    }
    if text(spec, "serviceAccountName").is_empty() {
        volumes::tokens_forbidden(&place, spec, errors);
    }
    for name in CONTAINERS {
        for (index, container) in items(spec, name) {
            let image = text(container, "image");
            if image.trim() != image {
                let path = place.child(name).path().index(index).child("image");
                errors.push(Error::invalid(&path, image, "must not have leading or trailing whitespace"));
            }
        }
    }
}

fn pod_annotations(at: &At<'_>, metadata: &Fields, spec: &Fields, errors: &mut Errors) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let Some(annotations) = object(metadata, "annotations") else { return };
    if annotations.contains_key(MIRROR) && text(spec, "nodeName").is_empty() {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&at.path().key(MIRROR), text(annotations, MIRROR), why));
    }
    let cost = text(annotations, DELETION_COST);
    let canonical = cost.parse::<i32>().is_ok_and(|number| number.to_string() == cost);
    if !cost.is_empty() && !canonical {
        errors.push(Error::invalid(&at.path().key(DELETION_COST), cost, "must be a 32bit integer"));
    }
}

/// Labels and annotations of the pods to be made, and what a template may not have.
fn template(at: &At<'_>, template: &Fields, errors: &mut Errors) {
    if let Some(metadata) = object(template, "metadata") {
        meta::labels_and_annotations(metadata, &|| at.path(), errors);
        if let Some(spec) = object(template, "spec") {
            pod_annotations(&at.child("annotations"), metadata, spec, errors);
        }
    }
    if object(template, "spec").is_some_and(|spec| !list(spec, "ephemeralContainers").is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&under(at, "spec.ephemeralContainers"), why));
    }
}

/// What relates the parts of a pod. Only fields that are there are looked at.
fn spec(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    names::unique(at, spec, errors);
    for (name, value) in spec {
        match name.as_str() {
            list @ ("containers" | "initContainers" | "ephemeralContainers") => {
                containers(&at.child(list), list, spec, errors);
            }
            "dnsPolicy" if value == "None" => system::dns_policy(at, spec, errors),
            "hostPID" => system::processes(at, spec, errors),
            "hostUsers" => system::user_namespaces(at, spec, errors),
            "os" => system::operating_system(at, spec, errors),
            "overhead" => resources::overhead(&at.child(name), value, errors),
            "resources" => resources::of_pod(at, spec, errors),
            "schedulingGates" => scheduling::gates(at, spec, errors),
            "topologySpreadConstraints" => scheduling::spread_once(at, spec, errors),
            _ => {}
        }
    }
    container::host_ports(at, spec, errors);
    system::host_processes(at, spec, errors);
}

fn containers(at: &At<'_>, list: &str, spec: &Fields, errors: &mut Errors) {
    for (index, container) in items(spec, list) {
        let place = at.index(index);
        match list {
            "containers" => container::regular(&place, spec, container, errors),
            "initContainers" => container::init(&place, spec, container, errors),
            _ => container::in_spec(&place, spec, container, errors),
        }
    }
}
