//! Volume expansion: a claim that asks for more than its volume holds is handed to whoever can make it larger.
//!
//! Volumes of CSI drivers grow by the driver's own resizer: it is only told. Those of the built-in provisioner are
//! directories, which need no growing, so that the size is merely noted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, Recorder, WorkQueue};

use super::{
    PROVISIONED_BY, annotation, asked, capacity, claim_phase, class_of_claim, local_path, volume_name,
};
use crate::context::{Context, Key, Outcome, ignore_not_found};

/// From a volume's growth to a look at its claim.
const AFTER_VOLUME: Duration = Duration::from_millis(100);

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    claims: Arc<Informer>,
    volumes: Arc<Informer>,
    classes: Arc<Informer>,
}

/// The next step of a claim.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    /// Somebody else's work.
    Tell,
    GrowVolume(Box<PersistentVolume>),
    GrowClaim(Box<PersistentVolumeClaim>),
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("expand-controller");
    let controller = Arc::new(Controller {
        recorder: context.recorder(&client, "volume_expand"),
        client,
        claims: context.informer(&PersistentVolumeClaim::GVR),
        volumes: context.informer(&PersistentVolume::GVR),
        classes: context.informer(&StorageClass::GVR),
    });
    let queue = WorkQueue::named("volume_expand");
    let to = queue.clone();
    controller.claims.on_change(Box::new(move |old, new| {
        // A claim grows by a change of its spec; its other changes are many.
        let Some(new) = new.filter(|new| old.is_none_or(|old| differs(old, new))) else { return };
        to.add(Key::of(new));
    }));
    let informers = [controller.claims.clone(), controller.volumes.clone(), controller.classes.clone()];
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, 1, &informers.each_ref(), reconcile).await;
}

fn differs(old: &Object, new: &Object) -> bool {
    let parts = |object: &Object| {
        let value = object.value().unwrap_or_default();
        (
            value["spec"]["resources"].clone(),
            value["status"]["capacity"].clone(),
            value["status"]["phase"].clone(),
        )
    };
    parts(old) != parts(new)
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.claims.get(&key.namespace, &key.name) else { return Ok(None) };
        let claim: PersistentVolumeClaim = decode(&object).map_err(Status::internal)?;
        let Some(volume) = self.volumes.get("", volume_name(&claim)) else { return Ok(None) };
        let volume: PersistentVolume = decode(&volume).map_err(Status::internal)?;
        let class = self.classes.get("", class_of_claim(&claim));
        let class: Option<StorageClass> = class.as_ref().map(decode).transpose().map_err(Status::internal)?;
        match plan(&claim, &volume, class.as_ref()) {
            Step::Nothing => Ok(None),
            Step::Tell => {
                let message = "waiting for an external controller to expand this PVC";
                self.recorder.event(&claim.reference(), "Normal", "ExternalExpanding", message);
                Ok(None)
            }
            Step::GrowVolume(volume) => {
                let api = Api::<PersistentVolume>::new(self.client.clone(), "");
                // The claim follows when the cache has the volume's new size.
                ignore_not_found(api.update(&volume).await.map(drop)).map(|()| Some(AFTER_VOLUME))
            }
            Step::GrowClaim(claim) => {
                let api = Api::<PersistentVolumeClaim>::new(self.client.clone(), claim.namespace());
                ignore_not_found(api.update_status(&claim).await.map(drop))?;
                let message = "Resize volume succeeded";
                self.recorder.event(&claim.reference(), "Normal", "VolumeResizeSuccessful", message);
                Ok(None)
            }
        }
    }
}

fn plan(claim: &PersistentVolumeClaim, volume: &PersistentVolume, class: Option<&StorageClass>) -> Step {
    let wanted = asked(claim);
    let has = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let has: tiphys_api::quantity::Quantity = has.and_then(|text| text.0.parse().ok()).unwrap_or_default();
    let allowed = class.is_some_and(|class| class.allow_volume_expansion == Some(true));
    if claim_phase(claim) != "Bound" || !allowed || wanted <= has {
        return Step::Nothing;
    }
    if annotation(&volume.metadata, PROVISIONED_BY) != Some(local_path::PROVISIONER) {
        return Step::Tell;
    }
    let size = || [("storage".to_owned(), Quantity(wanted.to_string()))].into();
    if capacity(volume) < wanted {
        let mut grown = volume.clone();
        grown.spec.get_or_insert_default().capacity = Some(size());
        return Step::GrowVolume(grown.into());
    }
    let mut grown = claim.clone();
    grown.status.get_or_insert_default().capacity = Some(size());
    Step::GrowClaim(grown.into())
}
