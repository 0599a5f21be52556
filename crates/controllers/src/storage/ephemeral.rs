//! Ephemeral volumes: a pod's own claims, made from the templates in its spec, owned by it and so gone with it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tiphys_api::Status;
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, Recorder, WorkQueue};

use crate::context::{Context, Key, Outcome};
use crate::pods::Pods;

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    pods: Arc<Pods>,
    claims: Arc<Informer>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("ephemeral-volume-controller");
    let claims = context.informer(&PersistentVolumeClaim::GVR);
    let queue = WorkQueue::named("ephemeral_volume");
    let (weak, to) = (Arc::downgrade(&context.pods), queue.clone());
    context.pods.informer().on_change(Box::new(move |_, new| {
        let (Some(pod), Some(pods)) = (new, weak.upgrade()) else { return };
        let facts = pods.get(&pod.meta().namespace, &pod.meta().name);
        if facts.is_some_and(|facts| facts.ephemeral && facts.active()) {
            to.add(Key::of(pod));
        }
    }));
    let to = queue.clone();
    claims.on_change(Box::new(move |old, new| {
        if let (Some(gone), None) = (old, new)
            && let Some(owner) = gone.meta().controller().filter(|owner| &*owner.kind == "Pod")
        {
            to.add(Key::new(&gone.meta().namespace, &owner.name));
        }
    }));
    let controller = Arc::new(Controller {
        recorder: context.recorder(&client, "ephemeral_volume"),
        client,
        pods: context.pods.clone(),
        claims: claims.clone(),
    });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, 2, &[&claims, context.pods.informer()], reconcile).await;
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let facts = self.pods.get(&key.namespace, &key.name).filter(|pod| pod.ephemeral && pod.active());
        let Some(facts) = facts else { return Ok(None) };
        let pod: Pod = decode(&facts.object).map_err(Status::internal)?;
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(claim) = claim(&pod, volume) else { continue };
            if let Err(status) = self.make(&pod, &claim).await {
                let message = format!("ephemeral volume {}: {status}", volume.name);
                self.recorder.event(&pod.reference(), "Warning", "FailedBinding", message);
                return Err(status);
            }
        }
        Ok(None)
    }

    async fn make(&self, pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), Status> {
        if let Some(known) = self.claims.get(pod.namespace(), claim.name()) {
            let ours = known.meta().controller().is_some_and(|owner| *owner.uid == *pod.uid());
            let why = format!("PVC {:?} was not created for pod {:?}", known.meta().key(), pod.name());
            return if ours { Ok(()) } else { Err(Status::internal(why)) };
        }
        let api = Api::<PersistentVolumeClaim>::new(self.client.clone(), pod.namespace());
        match api.create(claim).await {
            Err(status) if !status.is("AlreadyExists") => Err(status),
            _ => Ok(()),
        }
    }
}

/// The claim of an ephemeral volume.
fn claim(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let meta = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", pod.name(), volume.name)),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![pod.controller_reference()]),
            labels: meta.labels,
            annotations: meta.annotations,
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}
