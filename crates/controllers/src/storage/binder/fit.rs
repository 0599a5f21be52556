//! Whether a volume suits a claim, and the best of several. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use tiphys_api::Object;
use tiphys_api::selector::LabelSelector;
use tiphys_client::typed::{Kind, decode};

use crate::storage::{asked, capacity, class_of_claim, class_of_volume, volume_phase};

/// Why a volume does not suit a claim that asks for it by name, in Kubernetes' words.
pub(super) fn check(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), &'static str> {
    if capacity(volume) < asked(claim) {
        return Err("requested PV is too small");
    }
    if class_of_claim(claim) != class_of_volume(volume) {
        return Err("storageClassName does not match");
    }
    if mode_of_claim(claim) != mode_of_volume(volume) {
        return Err("incompatible volumeMode");
    }
    match has_modes(claim, volume) {
        true => Ok(()),
        false => Err("incompatible accessMode"),
    }
}

fn mode_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem")
}

fn mode_of_volume(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem")
}

fn has_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let mut wanted = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    wanted.all(|mode| offered.is_some_and(|offered| offered.contains(mode)))
}

/// The smallest free volume that suits a claim; of equal ones the first by name.
pub(super) fn best(
    claim: &PersistentVolumeClaim,
    free: impl Iterator<Item = Object>,
) -> Option<PersistentVolume> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = match selector.map(tiphys_api::Value::of) {
        Some(Ok(value)) => LabelSelector::from_value(&value).ok()?,
        Some(Err(_)) => return None,
        None => LabelSelector::everything(),
    };
    let class = class_of_claim(claim);
    let suits = |volume: &PersistentVolume| {
        class_of_volume(volume) == class
            && volume_phase(volume) == "Available"
            && check(claim, volume).is_ok()
    };
    free.filter(|object| object.meta().deleted.is_none() && selector.matches(&object.meta().labels))
        .filter_map(|object| decode::<PersistentVolume>(&object).ok())
        .filter(suits)
        .min_by(|a, b| capacity(a).cmp(&capacity(b)).then_with(|| a.name().cmp(b.name())))
}
