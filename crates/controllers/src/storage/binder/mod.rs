//! Claims and volumes find each other: Kubernetes' persistent-volume binder.
//!
//! [`plan`] knows the next step of one claim or volume, [`fit`] what suits, [`index`] whom a change concerns; this file
//! feeds and carries out. Several workers are safe: every write carries the revision that it was planned on, so that of
//! two claims that want one volume, one is told to look again.

mod fit;
mod index;
mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, Recorder, Target, WorkQueue};

use super::{class_of_claim, volume_name};
use crate::context::{Context, Key, Outcome, ignore_not_found};
use index::Index;
use plan::{ClaimView, Step, Write};

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Claim(Key),
    Volume(Box<str>),
}

struct Binder {
    client: Arc<dyn Client>,
    recorder: Recorder,
    claims: Arc<Informer>,
    volumes: Arc<Informer>,
    classes: Arc<Informer>,
    index: Mutex<Index>,
}

/// Runs the binder until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("persistent-volume-binder");
    let binder = Arc::new(Binder {
        recorder: context.recorder(&client, "persistentvolume-controller"),
        client,
        claims: context.informer(&PersistentVolumeClaim::GVR),
        volumes: context.informer(&PersistentVolume::GVR),
        classes: context.informer(&StorageClass::GVR),
        index: Mutex::default(),
    });
    let queue = WorkQueue::named("volume_binder");
    follow(&binder, &queue);
    let informers = [binder.claims.clone(), binder.volumes.clone(), binder.classes.clone()];
    let reconcile = move |work| {
        let binder = binder.clone();
        async move { binder.reconcile(work).await }
    };
    context.work(queue, context.config.workers, &informers.each_ref(), reconcile).await;
}

fn follow(binder: &Arc<Binder>, queue: &Arc<WorkQueue<Work>>) {
    let (weak, to) = (Arc::downgrade(binder), queue.clone());
    binder.volumes.on_change(Box::new(move |old, new| {
        let (Some(binder), Some(volume)) = (weak.upgrade(), new.or(old)) else { return };
        let claims = binder.index.lock().volume(old, new);
        claims.into_iter().for_each(|claim| to.add(Work::Claim(claim)));
        to.add(Work::Volume(volume.meta().name.clone()));
    }));
    let (weak, to) = (Arc::downgrade(binder), queue.clone());
    binder.claims.on_change(Box::new(move |old, new| {
        let (Some(binder), Some(claim)) = (weak.upgrade(), new.or(old)) else { return };
        let key = Key::of(claim);
        let volumes = binder.index.lock().reserved(&key);
        volumes.into_iter().for_each(|name| to.add(Work::Volume(name)));
        to.add(Work::Claim(key));
    }));
    let (weak, to) = (Arc::downgrade(binder), queue.clone());
    binder.classes.on_change(Box::new(move |_, new| {
        let (Some(binder), Some(class)) = (weak.upgrade(), new) else { return };
        let claims = binder.index.lock().waiting_for(&class.meta().name);
        claims.into_iter().for_each(|claim| to.add(Work::Claim(claim)));
    }));
}

fn typed<T: Kind>(object: Option<Object>) -> Result<Option<T>, Status> {
    object.map(|object| decode(&object)).transpose().map_err(Status::internal)
}

impl Binder {
    async fn reconcile(&self, work: Work) -> Outcome {
        match work {
            Work::Claim(key) => self.claim(&key).await?,
            Work::Volume(name) => self.volume(&name).await?,
        }
        Ok(None)
    }

    async fn claim(&self, key: &Key) -> Result<(), Status> {
        let found = self.claims.get(&key.namespace, &key.name);
        let Some(claim) = typed::<PersistentVolumeClaim>(found)? else {
            self.index.lock().forget(key);
            return Ok(());
        };
        let class_name = class_of_claim(&claim).to_owned();
        let class = typed::<StorageClass>(self.classes.get("", &class_name))?;
        let step = self.plan(key, &claim, class.as_ref())?;
        self.index.lock().wait(key, &class_name, step.waits);
        if let Some((kind, reason, message)) = step.tale {
            self.recorder.event(&claim.reference(), kind, reason, message);
        }
        match step.write {
            Some(write) => self.write(write).await,
            None => Ok(()),
        }
    }

    fn plan(
        &self,
        key: &Key,
        claim: &PersistentVolumeClaim,
        class: Option<&StorageClass>,
    ) -> Result<Step, Status> {
        let named = match volume_name(claim) {
            "" => None,
            name => typed::<PersistentVolume>(self.volumes.get("", name))?,
        };
        let (reserved, free) = {
            let index = self.index.lock();
            (index.reserved(key), index.free(class_of_claim(claim)))
        };
        let first = reserved.first().and_then(|name| self.volumes.get("", name));
        let reserved = typed::<PersistentVolume>(first)?;
        // With a class that waits for pods, the scheduler chooses among free volumes.
        let chooses = volume_name(claim).is_empty() && !class.is_some_and(super::waits_for_pod);
        let best = match chooses {
            true => fit::best(claim, free.iter().filter_map(|name| self.volumes.get("", name))),
            false => None,
        };
        Ok(plan::claim(&ClaimView {
            claim,
            named: named.as_ref(),
            reserved: reserved.as_ref(),
            best: best.as_ref(),
            class,
        }))
    }

    async fn volume(&self, name: &str) -> Result<(), Status> {
        let Some(volume) = typed::<PersistentVolume>(self.volumes.get("", name))? else { return Ok(()) };
        let claim = match plan::reference(&volume) {
            Some(to) => self.claim_of(&volume, to.namespace.as_deref(), to.name.as_deref()).await?,
            None => None,
        };
        match plan::volume(&volume, claim.as_ref()) {
            Some(write) => self.write(write).await,
            None => Ok(()),
        }
    }

    /// The claim that a volume refers to. Before a volume counts as released, the API server is asked: the cache of claims
    /// may be later than that of volumes.
    async fn claim_of(
        &self,
        volume: &PersistentVolume,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Option<PersistentVolumeClaim>, Status> {
        let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
        let cached = typed::<PersistentVolumeClaim>(self.claims.get(namespace, name))?;
        let wanted = plan::reference(volume).and_then(|to| to.uid.as_deref()).unwrap_or_default();
        if wanted.is_empty() || cached.as_ref().is_some_and(|claim| claim.uid() == wanted) {
            return Ok(cached);
        }
        let target = Target::new(&PersistentVolumeClaim::GVR, namespace, name);
        typed(ignore_not_found(self.client.get(&target).await.map(Some))?)
    }

    async fn write(&self, write: Write) -> Result<(), Status> {
        let volumes = || Api::<PersistentVolume>::new(self.client.clone(), "");
        let claims = |namespace: &str| Api::<PersistentVolumeClaim>::new(self.client.clone(), namespace);
        let written = match write {
            Write::Claim(claim) => claims(claim.namespace()).update(&claim).await.map(drop),
            Write::ClaimStatus(claim) => claims(claim.namespace()).update_status(&claim).await.map(drop),
            Write::Volume(volume) => volumes().update(&volume).await.map(drop),
            Write::VolumeStatus(mut volume) => {
                if let Some(status) = &mut volume.status {
                    status.last_phase_transition_time = Some(Time(Timestamp::now()));
                }
                volumes().update_status(&volume).await.map(drop)
            }
        };
        ignore_not_found(written)
    }
}
