//! HorizontalPodAutoscalers (`autoscaling/v2`): the size of whatever has a `scale`, after its metrics.
//!
//! - [`plan`] decides; this file finds the target, reads its metrics, and carries out.
//! - Metrics send no events, so an autoscaler is looked at every fifteen seconds. Without autoscalers nothing runs.

mod limits;
mod metrics;
mod plan;
mod pods;
mod proposal;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use parking_lot::Mutex;
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, Status};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Api, Client, Informer, Recorder, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};
use crate::pods::{Facts, Pods};
use crate::resources::Resources;
use limits::{History, Rules};
use metrics::Reading;
use plan::{Plan, Snapshot};
use pods::PodView;

/// How often an autoscaler looks.
const PERIOD: Duration = Duration::from_secs(15);
/// Two autoscalers of one pod would undo each other's work, so neither does any.
const AMBIGUOUS: &str = "AmbiguousSelector";

struct Controller {
    client: Arc<dyn Client>,
    recorder: Recorder,
    hpas: Arc<Informer>,
    pods: Arc<Pods>,
    resources: Resources,
    histories: Mutex<HashMap<Key, History>>,
    /// Which pods every autoscaler was last seen to be for.
    selectors: Mutex<HashMap<Key, LabelSelector>>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let client = context.client("horizontal-pod-autoscaler");
    let recorder = context.recorder(&client, "horizontal-pod-autoscaler");
    let hpas = context.informer(&HorizontalPodAutoscaler::GVR);
    let queue = WorkQueue::named("horizontalpodautoscaler");
    let controller = Arc::new(Controller {
        client,
        recorder,
        hpas: hpas.clone(),
        pods: context.pods.clone(),
        resources: context.resources.clone(),
        histories: Mutex::default(),
        selectors: Mutex::default(),
    });
    follow(&controller, &queue);
    let reconcile = move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    };
    context.work(queue, context.config.workers, &[&hpas, context.pods.informer()], reconcile).await;
}

/// A new spec is looked at right away; a new status is our own.
fn follow(controller: &Arc<Controller>, queue: &Arc<WorkQueue<Key>>) {
    let (weak, queue) = (Arc::downgrade(controller), queue.clone());
    controller.hpas.on_change(Box::new(move |old, new| match (old, new) {
        (Some(old), Some(new)) if old.meta().generation == new.meta().generation => {}
        (_, Some(new)) => queue.add(Key::of(new)),
        (Some(gone), None) => {
            if let Some(controller) = weak.upgrade() {
                controller.histories.lock().remove(&Key::of(gone));
                controller.selectors.lock().remove(&Key::of(gone));
            }
        }
        (None, None) => {}
    }));
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.hpas.get(&key.namespace, &key.name) else { return Ok(None) };
        let hpa: HorizontalPodAutoscaler = decode(&object).map_err(Status::internal)?;
        if hpa.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let status = match self.scale(&hpa).await {
            Ok((target, scale)) => self.autoscale(key, &hpa, &target, scale).await,
            Err(why) => self.without_target(&hpa, &why),
        };
        if hpa.status.as_ref() != Some(&status) {
            let changed = HorizontalPodAutoscaler { status: Some(status), ..hpa };
            let api = Api::<HorizontalPodAutoscaler>::new(self.client.clone(), &key.namespace);
            ignore_not_found(api.update_status(&changed).await.map(drop))?;
        }
        Ok(Some(PERIOD))
    }

    fn tell(&self, hpa: &HorizontalPodAutoscaler, kind: &str, reason: &str, message: String) {
        self.recorder.event(&hpa.reference(), kind, reason, message);
    }

    /// The target's scale and where it is.
    async fn scale(&self, hpa: &HorizontalPodAutoscaler) -> Result<(Target, Object), String> {
        let reference = &hpa.spec.scale_target_ref;
        let found = self.resources.now();
        let served = found.by_kind(reference.api_version.as_deref().unwrap_or_default(), &reference.kind);
        let served = served.ok_or_else(|| format!("no matches for kind {:?}", reference.kind))?;
        let target = Target::new(&served.gvr, hpa.namespace(), &reference.name).sub("scale");
        let scale = self.client.get(&target).await.map_err(|status| status.to_string())?;
        Ok((target, scale))
    }

    fn without_target(&self, hpa: &HorizontalPodAutoscaler, why: &str) -> HorizontalPodAutoscalerStatus {
        self.tell(hpa, "Warning", "FailedGetScale", why.to_owned());
        let message = format!("the HPA controller was unable to get the target's current scale: {why}");
        failed(hpa, "AbleToScale", "FailedGetScale", &message)
    }

    async fn autoscale(
        &self,
        key: &Key,
        hpa: &HorizontalPodAutoscaler,
        target: &Target,
        object: Object,
    ) -> HorizontalPodAutoscalerStatus {
        let scale = match object.decode::<Scale>() {
            Ok(scale) => scale,
            Err(error) => return self.without_target(hpa, &error.to_string()),
        };
        let (mut readings, mut pods) = (Vec::new(), Vec::new());
        if plan::needs_metrics(hpa, &scale) {
            match self.selected(key, &scale) {
                Ok(selected) => pods = selected,
                Err((reason, why)) => {
                    self.tell(hpa, "Warning", reason, why.clone());
                    self.tell(hpa, "Warning", "FailedComputeMetricsReplicas", why.clone());
                    let reason = if reason == AMBIGUOUS { AMBIGUOUS } else { "InvalidSelector" };
                    return failed(hpa, "ScalingActive", reason, &why);
                }
            }
            readings = self.read(hpa, &scale).await;
        }
        let now = Timestamp::now();
        let snapshot = Snapshot { hpa, scale: &scale, pods: &pods, readings: &readings, now };
        let mut history = self.histories.lock().get(key).cloned().unwrap_or_default();
        let Plan { mut status, rescale, events } = plan::plan(&snapshot, &mut history);
        for (kind, reason, message) in events {
            self.tell(hpa, kind, reason, message);
        }
        if let Some((replicas, why)) = rescale {
            let outcome = self.rescale(target, &scale, replicas).await;
            if outcome.is_ok() {
                let rules = Rules::of(&hpa.spec);
                history.scaled(plan::wanted(&scale), replicas, &rules, now);
            }
            self.tell_rescale(hpa, replicas, &why, outcome.as_ref().err());
            plan::rescaled(&mut status, replicas, outcome.map_err(|status| status.to_string()), now);
        }
        self.histories.lock().insert(key.clone(), history);
        status
    }

    /// The target's pods, or why they cannot be told.
    fn selected(&self, key: &Key, scale: &Scale) -> Result<Vec<PodView>, (&'static str, String)> {
        let text = selector(scale);
        if text.is_empty() {
            return Err(("SelectorRequired", "the HPA target's scale is missing a selector".into()));
        }
        let broken = |error: &dyn std::fmt::Display| {
            format!("couldn't convert selector into a corresponding internal selector object: {error}")
        };
        let selector = LabelSelector::parse(text).map_err(|error| ("InvalidSelector", broken(&error)))?;
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector.matches(&pod.meta().labels));
        self.selectors.lock().insert(key.clone(), selector);
        let all = self.autoscalers_of(&key.namespace, &pods);
        if all.len() > 1 {
            let names: Vec<String> = all.iter().map(Key::to_string).collect();
            let names = names.join(" ");
            let why = format!("pods by selector {text} are controlled by multiple HPAs: [{names}]");
            return Err((AMBIGUOUS, why));
        }
        Ok(pods.iter().map(|pod| PodView::of(pod)).collect())
    }

    /// The autoscalers of a namespace that are for some of these pods.
    fn autoscalers_of(&self, namespace: &str, pods: &[Arc<Facts>]) -> BTreeSet<Key> {
        let selectors = self.selectors.lock();
        let here = selectors.iter().filter(|(key, _)| *key.namespace == *namespace);
        let any = |selector: &LabelSelector| pods.iter().any(|pod| selector.matches(&pod.meta().labels));
        here.filter(|(_, selector)| any(selector)).map(|(key, _)| key.clone()).collect()
    }

    async fn read(&self, hpa: &HorizontalPodAutoscaler, scale: &Scale) -> Vec<Result<Reading, String>> {
        let found = self.resources.now();
        let target = metrics::Target { namespace: hpa.namespace(), selector: selector(scale), found: &found };
        let specs = hpa.spec.metrics.as_deref().unwrap_or_default();
        let reads = specs.iter().map(|spec| metrics::read(self.client.as_ref(), spec, &target));
        futures::future::join_all(reads).await
    }

    async fn rescale(&self, target: &Target, scale: &Scale, replicas: i32) -> Result<(), Status> {
        let mut scale = scale.clone();
        scale.spec.get_or_insert_default().replicas = Some(replicas);
        let body = serde_json::to_vec(&scale).map_err(Status::internal)?;
        self.client.update(target, body.into(), &WriteOptions::default()).await.map(drop)
    }

    fn tell_rescale(&self, hpa: &HorizontalPodAutoscaler, replicas: i32, why: &str, error: Option<&Status>) {
        match error {
            None => {
                let message = format!("New size: {replicas}; reason: {why}");
                self.tell(hpa, "Normal", "SuccessfulRescale", message);
            }
            Some(status) => {
                let message = format!("New size: {replicas}; reason: {why}; error: {status}");
                self.tell(hpa, "Warning", "FailedRescale", message);
            }
        }
    }
}

fn selector(scale: &Scale) -> &str {
    scale.status.as_ref().and_then(|status| status.selector.as_deref()).unwrap_or_default()
}

/// The status as it was, with a condition that failed.
fn failed(
    hpa: &HorizontalPodAutoscaler,
    kind: &str,
    reason: &str,
    message: &str,
) -> HorizontalPodAutoscalerStatus {
    let mut status = hpa.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    plan::set(conditions, kind, false, reason, message, Timestamp::now());
    status.observed_generation = hpa.metadata.generation;
    status
}
