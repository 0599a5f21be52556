use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::fake::FakeClient;

/// Counts how many work at once, and how often one began.
#[derive(Default)]
struct Works {
    now: AtomicUsize,
    most: AtomicUsize,
    begun: AtomicUsize,
}

struct Working(Arc<Works>);

impl Working {
    fn begin(works: &Arc<Works>) -> Self {
        let now = works.now.fetch_add(1, Ordering::SeqCst) + 1;
        works.most.fetch_max(now, Ordering::SeqCst);
        works.begun.fetch_add(1, Ordering::SeqCst);
        Self(works.clone())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Process {
    stop: CancellationToken,
    /// Cuts it off from the API server.
    cut: Arc<AtomicBool>,
    task: AbortOnDropHandle<()>,
}

fn start(server: &FakeClient, identity: &str, works: &Arc<Works>) -> Process {
    let (stop, cut) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let off = cut.clone();
    let client = server.apart();
    client.fail(Box::new(move |_, _| {
        off.load(Ordering::SeqCst).then(|| Status::unavailable("no route to host"))
    }));
    let (works, token) = (works.clone(), stop.clone());
    let election = Election { name: "kube-scheduler", identity: identity.into(), timing: Timing::SHARED };
    let task = tokio::spawn(async move {
        let work = |token: CancellationToken| {
            let working = Working::begin(&works);
            async move {
                token.cancelled().await;
                drop(working);
            }
        };
        lead(Arc::new(client), election, token, work).await;
    });
    Process { stop, cut, task: AbortOnDropHandle::new(task) }
}

fn held_by(server: &FakeClient) -> Option<String> {
    server.find::<Lease>(NAMESPACE, "kube-scheduler")?.spec?.holder_identity
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn one_works_and_the_next_after_it_was_killed() {
    let (server, works) = (FakeClient::new(), Arc::new(Works::default()));
    let first = start(&server, "a", &works);
    seconds(1).await;
    let _second = start(&server, "b", &works);
    seconds(60).await;
    assert_eq!((held_by(&server).as_deref(), works.begun.load(Ordering::SeqCst)), (Some("a"), 1));
    drop(first);
    seconds(12).await;
    assert_eq!(works.now.load(Ordering::SeqCst), 0, "the dead one's Lease is not over");
    seconds(8).await;
    assert_eq!((held_by(&server).as_deref(), works.now.load(Ordering::SeqCst)), (Some("b"), 1));
    let lease = server.find::<Lease>(NAMESPACE, "kube-scheduler").unwrap().spec.unwrap();
    assert_eq!((lease.lease_transitions, lease.lease_duration_seconds), (Some(1), Some(15)));
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_in_order_hands_over_at_once() {
    let (server, works) = (FakeClient::new(), Arc::new(Works::default()));
    let first = start(&server, "a", &works);
    seconds(1).await;
    let _second = start(&server, "b", &works);
    seconds(5).await;
    first.stop.cancel();
    first.task.await.unwrap();
    assert_eq!(held_by(&server), None);
    seconds(3).await;
    assert_eq!((held_by(&server).as_deref(), works.most.load(Ordering::SeqCst)), (Some("b"), 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cut_off_stops_before_the_next_begins_and_comes_back_as_a_candidate() {
    let (server, works) = (FakeClient::new(), Arc::new(Works::default()));
    let processes = [start(&server, "a", &works), start(&server, "b", &works)];
    seconds(5).await;
    let of = |name: &str| &processes[usize::from(name == "b")];
    for round in 1..=6 {
        let leader = held_by(&server).unwrap();
        of(&leader).cut.store(true, Ordering::SeqCst);
        seconds(40).await;
        of(&leader).cut.store(false, Ordering::SeqCst);
        seconds(5).await;
        assert_ne!(held_by(&server), Some(leader), "round {round}");
        assert_eq!(works.begun.load(Ordering::SeqCst), round + 1);
    }
    assert_eq!((works.now.load(Ordering::SeqCst), works.most.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_changes_nothing() {
    let (server, works) = (FakeClient::new(), Arc::new(Works::default()));
    let process = start(&server, "a", &works);
    for _ in 0..10 {
        seconds(20).await;
        process.cut.store(true, Ordering::SeqCst);
        seconds(8).await;
        process.cut.store(false, Ordering::SeqCst);
    }
    assert_eq!(works.begun.load(Ordering::SeqCst), 1);
}
