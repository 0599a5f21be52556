//! The next step toward bound claims and volumes. Pure.
//!
//! Binding is four writes (the volume points at the claim, the volume is Bound, the claim points at the volume, the claim
//! is Bound), in this order, so that a stop in between is taken up by whoever looks next. A plan is the first of them
//! that is missing; its event brings the next.

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
    PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use tiphys_client::typed::Kind;

use super::fit;
use crate::storage::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONED_BY, PROVISIONERS, SELECTED_NODE, annotate, annotation,
    claim_phase, class_of_claim, volume_name, volume_phase, waits_for_pod,
};

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Claim(Box<PersistentVolumeClaim>),
    ClaimStatus(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
    VolumeStatus(Box<PersistentVolume>),
}

/// Something to tell about the claim: type, reason, message.
pub(super) type Tale = (&'static str, &'static str, String);

/// What to do now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    pub(super) write: Option<Write>,
    pub(super) tale: Option<Tale>,
    /// The claim waits for a volume of its class to appear.
    pub(super) waits: bool,
}

impl Step {
    fn write(write: Write) -> Self {
        Self { write: Some(write), ..Self::default() }
    }
}

/// What a claim's plan looks at.
pub(super) struct ClaimView<'v> {
    pub(super) claim: &'v PersistentVolumeClaim,
    /// The volume that the claim names, if it exists.
    pub(super) named: Option<&'v PersistentVolume>,
    /// A volume that is reserved for the claim.
    pub(super) reserved: Option<&'v PersistentVolume>,
    /// The best free volume of those that fit.
    pub(super) best: Option<&'v PersistentVolume>,
    pub(super) class: Option<&'v StorageClass>,
}

/// The next step of a claim.
pub(super) fn claim(view: &ClaimView<'_>) -> Step {
    match annotation(&view.claim.metadata, BIND_COMPLETED).is_some() {
        true => bound(view),
        false if view.claim.metadata.deletion_timestamp.is_some() => Step::default(),
        false => unbound(view),
    }
}

fn bound(view: &ClaimView<'_>) -> Step {
    let claim = view.claim;
    if volume_name(claim).is_empty() {
        let why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", why);
    }
    match view.named {
        None => {
            let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            lost(claim, "ClaimLost", why)
        }
        Some(volume) if is_free(volume) || points_at(volume, claim) => finish(claim, volume),
        Some(_) => {
            let why = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost(claim, "ClaimMisbound", why)
        }
    }
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, why: &str) -> Step {
    if claim_phase(claim) == "Lost" {
        return Step::default();
    }
    let mut lost = claim.clone();
    let status = lost.status.get_or_insert_default();
    *status = PersistentVolumeClaimStatus { phase: Some("Lost".into()), ..status.clone() };
    (status.access_modes, status.capacity) = (None, None);
    let tale = Some(("Warning", reason, why.to_owned()));
    Step { tale, ..Step::write(Write::ClaimStatus(lost.into())) }
}

fn unbound(view: &ClaimView<'_>) -> Step {
    let claim = view.claim;
    if volume_name(claim).is_empty() {
        let found = view.reserved.filter(|volume| fit::check(claim, volume).is_ok()).or(view.best);
        return found.map_or_else(|| wait(view), |volume| finish(claim, volume));
    }
    let pending = || Step { waits: true, ..pending(claim, None) };
    let Some(volume) = view.named else { return pending() };
    if is_free(volume) {
        return match fit::check(claim, volume) {
            Ok(()) => finish(claim, volume),
            Err(why) => {
                let why = format!("Cannot bind to requested volume {:?}: {why}", volume.name());
                Step { write: pending().write, tale: Some(("Warning", "VolumeMismatch", why)), waits: true }
            }
        };
    }
    if points_at(volume, claim) {
        return finish(claim, volume);
    }
    let why = format!("volume {:?} already bound to a different claim.", volume.name());
    Step { tale: Some(("Warning", "FailedBinding", why)), ..pending() }
}

/// Nothing fits: the claim waits for its first pod, for a provisioner, or for people.
fn wait(view: &ClaimView<'_>) -> Step {
    let (claim, class) = (view.claim, class_of_claim(view.claim));
    let tell = |kind, reason, why: String| pending(claim, Some((kind, reason, why)));
    if view.class.is_some_and(waits_for_pod) && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        let why = "waiting for first consumer to be created before binding";
        return tell("Normal", "WaitForFirstConsumer", why.to_owned());
    }
    if class.is_empty() {
        let why = "no persistent volumes available for this claim and no storage class is set";
        return tell("Normal", "FailedBinding", why.to_owned());
    }
    let Some(known) = view.class else {
        let why = format!("storageclass.storage.k8s.io {class:?} not found");
        return tell("Warning", "ProvisioningFailed", why);
    };
    let provisioner = known.provisioner.as_str();
    if provisioner == "kubernetes.io/no-provisioner" {
        let why = format!(
            "storageclass {class:?} has no provisioner, and no persistent volume is available for this claim"
        );
        return tell("Normal", "FailedBinding", why);
    }
    if PROVISIONERS.iter().any(|key| annotation(&claim.metadata, key) != Some(provisioner)) {
        let mut asking = claim.clone();
        PROVISIONERS.iter().for_each(|key| annotate(&mut asking.metadata, key, provisioner));
        return Step { waits: true, ..Step::write(Write::Claim(asking.into())) };
    }
    let why = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    tell("Normal", "ExternalProvisioning", why)
}

fn pending(claim: &PersistentVolumeClaim, tale: Option<Tale>) -> Step {
    let write = (claim_phase(claim) != "Pending").then(|| {
        let mut pending = claim.clone();
        pending.status.get_or_insert_default().phase = Some("Pending".into());
        Write::ClaimStatus(pending.into())
    });
    Step { write, tale, waits: true }
}

/// The first of the four writes that is missing.
fn finish(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Step {
    let toward_claim = point_at(volume, claim).map(|volume| Write::Volume(volume.into()));
    let write = toward_claim
        .or_else(|| phase(volume, "Bound"))
        .or_else(|| point_back(claim, volume).map(|claim| Write::Claim(claim.into())))
        .or_else(|| fulfil(claim, volume).map(|claim| Write::ClaimStatus(claim.into())));
    Step { write, ..Step::default() }
}

/// The volume with its reference to the claim, unless it has it.
fn point_at(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let known = reference(volume);
    if known.is_some_and(|known| known.uid.as_deref() == Some(claim.uid())) {
        return None;
    }
    let mut bound = volume.clone();
    if known.is_none() {
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    bound.spec.get_or_insert_default().claim_ref = Some(claim.reference());
    Some(bound)
}

/// The claim with the name of its volume, unless it has it.
fn point_back(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let named = volume_name(claim) == volume.name();
    if named && annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        return None;
    }
    let mut bound = claim.clone();
    if !named {
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER, "yes");
        bound.spec.get_or_insert_default().volume_name = Some(volume.name().to_owned());
    }
    annotate(&mut bound.metadata, BIND_COMPLETED, "yes");
    Some(bound)
}

/// The claim with the status of a bound one, unless it has it.
fn fulfil(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let spec = volume.spec.clone().unwrap_or_default();
    let mut bound = claim.clone();
    let was_bound = claim_phase(claim) == "Bound";
    let status = bound.status.get_or_insert_default();
    status.phase = Some("Bound".into());
    status.access_modes = spec.access_modes;
    // A volume that grows tells its size itself.
    if !was_bound || status.capacity.is_none() {
        status.capacity = spec.capacity;
    }
    let class = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    if !was_bound && class.as_ref().is_some_and(|class| !class.is_empty()) {
        status.current_volume_attributes_class_name = class;
    }
    (bound.status != claim.status).then_some(bound)
}

/// The next step of a volume. `claim` is the one that it refers to, if that exists.
pub(super) fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Option<Write> {
    let uid = reference(volume).and_then(|claim| claim.uid.as_deref()).unwrap_or_default();
    if uid.is_empty() {
        return phase(volume, "Available");
    }
    let Some(claim) = claim.filter(|claim| claim.uid() == uid) else {
        return if volume_phase(volume) == "Failed" { None } else { phase(volume, "Released") };
    };
    match volume_name(claim) {
        // The claim's own steps go on from here.
        "" => None,
        name if name == volume.name() => phase(volume, "Bound"),
        _ => give_up(volume),
    }
}

/// The claim has chosen another volume.
fn give_up(volume: &PersistentVolume) -> Option<Write> {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy == Some("Delete") {
        return phase(volume, "Released");
    }
    let mut free = volume.clone();
    let spec = free.spec.get_or_insert_default();
    if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() {
        spec.claim_ref = None;
        free.metadata.annotations.get_or_insert_default().remove(BOUND_BY_CONTROLLER);
    } else if let Some(claim) = &mut spec.claim_ref {
        claim.uid = None;
    }
    Some(Write::Volume(free.into()))
}

fn phase(volume: &PersistentVolume, phase: &str) -> Option<Write> {
    if volume_phase(volume) == phase {
        return None;
    }
    let mut changed = volume.clone();
    changed.status =
        Some(PersistentVolumeStatus { phase: Some(phase.into()), ..PersistentVolumeStatus::default() });
    Some(Write::VolumeStatus(changed.into()))
}

/// The claim that a volume refers to.
pub(super) fn reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref())
}

fn is_free(volume: &PersistentVolume) -> bool {
    reference(volume).is_none()
}

/// Whether a volume refers to this claim: by name, and by identity once it has one.
fn points_at(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    reference(volume).is_some_and(|to| {
        let named =
            to.name.as_deref() == Some(claim.name()) && to.namespace.as_deref() == Some(claim.namespace());
        named && to.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.uid())
    })
}
