//! A cluster under stress, for the laws that controllers keep whatever happens: events that come late, writes that are
//! refused, writes that are done and whose answers are lost, controllers that are killed in the middle of their work and
//! started anew.
//!
//! A law is a function of the cluster's true state; it is asked before every single request of the controllers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use proptest::test_runner::{Config as ProptestConfig, TestCaseError};
use tiphys_api::Status;
use tiphys_client::fake::FakeClient;
use tiphys_client::typed::Kind;
use tiphys_client::{Api, Target};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Config;
use crate::context::Context;

/// What happens to the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    /// No event is delivered from now on.
    Hold,
    /// All are.
    Release,
    /// The controllers are killed and started anew.
    Restart,
    /// So many of their next writes are refused.
    Refuse(u8),
    /// So many of their next writes are done, and nobody is told.
    Lose(u8),
    /// They get some milliseconds.
    Wait,
}

impl Noise {
    /// One of them by number: every number is one.
    pub(crate) fn of(number: u8) -> Self {
        match number % 7 {
            0 => Self::Hold,
            1 => Self::Release,
            2 => Self::Restart,
            3 => Self::Refuse(1 + number % 3),
            4 => Self::Lose(1 + number % 3),
            _ => Self::Wait,
        }
    }
}

/// A controller, as its module runs it.
pub(crate) type Controller = fn(Arc<Context>) -> BoxFuture<'static, ()>;

/// Requests that something is still to happen to.
type Count = Arc<AtomicU32>;

/// Whether it happens to this one. Events are not worth it, and reads know no harm.
fn struck(left: &Count, verb: &str, target: &Target) -> bool {
    let write = ["create", "update", "patch", "delete"].contains(&verb);
    write
        && *target.gvr.resource != *"events"
        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

/// The cluster under stress.
pub(crate) struct Chaos {
    pub(crate) client: FakeClient,
    controllers: &'static [Controller],
    running: Option<(JoinSet<()>, DropGuard)>,
    refusals: Count,
    losses: Count,
    broken: Arc<Mutex<Option<String>>>,
}

impl Chaos {
    /// Starts controllers. `law` tells what is wrong, if anything is.
    pub(crate) fn start(
        client: FakeClient,
        controllers: &'static [Controller],
        law: impl Fn(&FakeClient) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let (refusals, losses, broken) = (Count::default(), Count::default(), Arc::new(Mutex::new(None)));
        let (left, told, state) = (refusals.clone(), broken.clone(), client.clone());
        client.fail(Box::new(move |verb, target| {
            if let Err(why) = law(&state) {
                told.lock().get_or_insert(why);
            }
            let refuse = struck(&left, verb, target);
            refuse.then(|| Status::conflict(&target.gvr, &target.name, "refused by chance"))
        }));
        let left = losses.clone();
        client.lose(Box::new(move |verb, target| {
            struck(&left, verb, target).then(|| Status::unavailable("the connection broke"))
        }));
        let mut chaos = Self { client, controllers, running: None, refusals, losses, broken };
        chaos.restart();
        chaos
    }

    fn restart(&mut self) {
        // The old ones first: two sets of controllers at once are another story.
        self.running = None;
        let stop = CancellationToken::new();
        let context = Context::new(Config::default(), Arc::new(self.client.clone()), stop.clone());
        let mut running = JoinSet::new();
        for controller in self.controllers {
            running.spawn(controller(context.clone()));
        }
        self.running = Some((running, stop.drop_guard()));
    }

    pub(crate) async fn disturb(&mut self, noise: Noise) {
        match noise {
            Noise::Hold => self.client.hold_watches(true),
            Noise::Release => self.client.hold_watches(false),
            Noise::Restart => self.restart(),
            Noise::Refuse(count) => self.refusals.store(count.into(), Ordering::SeqCst),
            Noise::Lose(count) => self.losses.store(count.into(), Ordering::SeqCst),
            Noise::Wait => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        tokio::task::yield_now().await;
    }

    /// Ends all disturbances and lets the controllers come to rest.
    pub(crate) async fn calm(&self) {
        self.client.hold_watches(false);
        self.refusals.store(0, Ordering::SeqCst);
        self.losses.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    /// The cluster as people see it, to whom nothing of this happens.
    pub(crate) fn people(&self) -> FakeClient {
        self.client.apart()
    }

    pub(crate) fn api<T: Kind>(&self, namespace: &str) -> Api<T> {
        Api::new(Arc::new(self.people()), namespace)
    }

    /// Whether the law held all the time.
    pub(crate) fn verdict(&self) -> Result<(), TestCaseError> {
        self.broken.lock().take().map_or(Ok(()), |why| Err(TestCaseError::fail(why)))
    }

    /// A node at work on the pod at a place among all: binds it and makes it ready, or ends it if it is to be deleted.
    pub(crate) fn run_pod(&self, place: u8) {
        let pods = self.client.all::<Pod>("");
        let Some(pod) = pods.get(usize::from(place) % pods.len().max(1)) else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            self.client.remove(&Pod::GVR, pod.namespace(), pod.name());
        } else if pod.status.as_ref().is_none_or(|status| status.phase.is_none()) {
            self.client.put(&ready(pod.clone()));
        }
    }
}

/// The pod, running on a node and ready for long.
pub(crate) fn ready(mut pod: Pod) -> Pod {
    pod.spec.get_or_insert_default().node_name = Some("node-1".into());
    pod.status = Some(PodStatus {
        phase: Some("Running".into()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(jiff::Timestamp::UNIX_EPOCH)),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    pod
}

/// Whether a pod serves: it is ready and nobody asked for its deletion.
pub(crate) fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
    pod.metadata.deletion_timestamp.is_none() && ready.next().is_some()
}

/// How many scripts a law is tried on: so many, or as `PROPTEST_CASES` says, for a longer run.
pub(crate) fn scripts(cases: u32) -> ProptestConfig {
    let given = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(given.unwrap_or(cases))
}

/// Runs a test on paused time.
pub(crate) fn paused<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}
