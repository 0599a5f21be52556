//! The engine against a model that is too simple to be wrong: every state the store ever had, kept in full.
//!
//! Random operations, some at once in one group, with reopenings, compactions and power failures in between. All
//! answers must be the model's, and so must every past state and every watch. Every engine is compared; one that cannot
//! lose power is just opened again.

mod scripts;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::medium::Medium;
use super::states::items;
use super::{Random, all, etcd, shown_event};
use crate::embedded::{Options, Retention};
use crate::{
    Compare, Embedded, Error, Etcd, Event, KeyValue, LeaseId, Op, Range, Revision, Store, Txn, TxnResult,
    WatchFrom,
};

const KEYS: [&str; 6] = ["/a", "/a/b", "/a/c", "/ab", "/b", "/c"];
const HOUR: Duration = Duration::from_secs(3600);

/// Every state, from revision 1 on.
struct Model {
    states: Vec<BTreeMap<String, KeyValue>>,
    events: Vec<Event>,
    compacted: Revision,
    leases: Vec<LeaseId>,
}

impl Model {
    fn new() -> Self {
        Self { states: vec![BTreeMap::new()], events: Vec::new(), compacted: 1, leases: Vec::new() }
    }

    fn revision(&self) -> Revision {
        self.states.len() as Revision
    }

    fn now(&self) -> &BTreeMap<String, KeyValue> {
        self.states.last().unwrap()
    }

    fn at(&self, revision: Revision) -> &BTreeMap<String, KeyValue> {
        &self.states[revision as usize - 1]
    }

    fn txn(&mut self, txn: &Txn) -> TxnResult {
        let of =
            |compare: &Compare| self.now().get(compare.key.as_str().unwrap()).map_or(0, |kv| kv.mod_revision);
        let found: Vec<_> = txn.compares.iter().map(of).collect();
        if txn.compares.iter().zip(&found).any(|(compare, found)| compare.mod_revision != *found) {
            return TxnResult::Conflict { revision: self.revision(), found };
        }
        self.apply(&txn.ops);
        TxnResult::Committed { revision: self.revision() }
    }

    fn apply(&mut self, ops: &[Op]) {
        let revision = self.revision() + 1;
        let mut state = self.now().clone();
        let before = self.events.len();
        for op in ops {
            let name = op.key().to_string();
            let previous = state.remove(&name);
            let previous_revision = previous.as_ref().map_or(0, |kv| kv.mod_revision);
            match op {
                Op::Put { key, value, lease } => {
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
                        lease: *lease,
                    };
                    state.insert(name, kv.clone());
                    self.events.push(Event::Put { kv, previous_revision, previous: None });
                }
                Op::Delete { key } if previous.is_some() => {
                    let key = key.clone();
                    self.events.push(Event::Delete { key, revision, previous_revision, previous: None });
                }
                Op::Delete { .. } => {}
            }
        }
        if self.events.len() > before {
            self.states.push(state);
        }
    }

    fn revoke(&mut self, lease: LeaseId) {
        let keys: Vec<_> =
            self.now().values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect();
        self.apply(&keys.into_iter().map(Op::delete).collect::<Vec<_>>());
        self.leases.retain(|other| *other != lease);
    }
}

/// Keys, each with a number that becomes a guess or a kind of change.
type Picks = Vec<(usize, u8)>;

/// What to do, with numbers that become keys, revisions and so on when it is done.
#[derive(Debug, Clone)]
enum Step {
    /// Transactions handed in at once: for each, conditions and changes.
    Group(Vec<(Picks, Picks)>),
    Compact(u8),
    Reopen,
    PowerFailure(u64),
    Grant,
    Revoke(usize),
    Range {
        from: usize,
        limit: usize,
        at: u8,
    },
    Watch {
        key: usize,
        at: u8,
        previous: bool,
    },
    Script(scripts::Sketch),
    Snapshot(u8),
    Defragment,
}

fn step() -> impl Strategy<Value = Step> {
    let picks = |most| prop::collection::vec((0..KEYS.len(), any::<u8>()), 0..=most);
    prop_oneof![
        8 => prop::collection::vec((picks(2), picks(3)), 1..5).prop_map(Step::Group),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::PowerFailure),
        1 => Just(Step::Grant),
        1 => (0..4usize).prop_map(Step::Revoke),
        3 => (0..KEYS.len(), 0..4usize, any::<u8>()).prop_map(|(from, limit, at)| Step::Range { from, limit, at }),
        3 => (0..KEYS.len(), any::<u8>(), any::<bool>())
            .prop_map(|(key, at, previous)| Step::Watch { key, at, previous }),
        4 => scripts::sketch().prop_map(Step::Script),
        2 => any::<u8>().prop_map(Step::Snapshot),
        1 => Just(Step::Defragment),
    ]
}

/// An engine that is compared.
#[async_trait::async_trait]
trait Subject: Send {
    fn store(&self) -> &dyn Store;
    /// Whether what is handed in at once is decided in that order, and a watch may always begin at the compacted
    /// revision: both are more than etcd does.
    fn strict(&self) -> bool;
    /// Opens the store again, after a power failure if there is a seed for it.
    async fn reopen(&mut self, power_failure: Option<u64>);
}

struct OnMedium {
    medium: Medium,
    store: Option<Embedded>,
}

impl OnMedium {
    fn new() -> Self {
        let mut subject = Self { medium: Medium::default(), store: None };
        subject.open();
        subject
    }

    fn open(&mut self) {
        // Only what is asked for is compacted; hardly any history is in memory; heads are written often.
        let (retention, replay_bytes) = (Retention::FOR_EVER, 400);
        let options = Options { retention, replay_bytes, history_bytes: 1_500, ..Options::default() };
        self.store = Some(Embedded::on(self.medium.parts(), &options).unwrap());
    }
}

#[async_trait::async_trait]
impl Subject for OnMedium {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }
    fn strict(&self) -> bool {
        true
    }
    async fn reopen(&mut self, power_failure: Option<u64>) {
        // First, because closing may still write.
        if let Some(seed) = power_failure {
            self.medium = self.medium.after_power_failure(&mut Random(seed | 1));
        }
        self.store = None;
        self.open();
    }
}

struct OnServer {
    server: etcd::Server,
    store: Etcd,
}

#[async_trait::async_trait]
impl Subject for OnServer {
    fn store(&self) -> &dyn Store {
        &self.store
    }
    fn strict(&self) -> bool {
        false
    }
    async fn reopen(&mut self, _power_failure: Option<u64>) {
        self.store = Etcd::connect(&self.server.options()).await.unwrap();
    }
}

struct Run {
    model: Model,
    subject: Box<dyn Subject>,
}

impl Run {
    fn new(subject: Box<dyn Subject>) -> Self {
        Self { model: Model::new(), subject }
    }

    fn store(&self) -> &dyn Store {
        self.subject.store()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Group(group) => self.group(group).await,
            Step::Compact(part) => self.compact(part).await,
            Step::Reopen => self.subject.reopen(None).await,
            Step::PowerFailure(seed) => self.subject.reopen(Some(seed)).await,
            Step::Grant => self.model.leases.push(self.store().grant(HOUR).await.unwrap()),
            Step::Revoke(which) => {
                if let Some(lease) = self.model.leases.get(which).copied() {
                    self.store().revoke(lease).await.unwrap();
                    self.model.revoke(lease);
                }
            }
            Step::Range { from, limit, at } => self.range(from, limit, at).await,
            Step::Watch { key, at, previous } => self.watch(key, at, previous).await,
            Step::Script(sketch) => {
                let script = self.model.script(sketch);
                let expected = self.model.run(&script);
                assert_eq!(self.store().run(script).await, Ok(expected));
            }
            Step::Snapshot(at) => self.snapshot(at).await,
            Step::Defragment => self.store().defragment().await.unwrap(),
        }
        assert_eq!(self.store().revision().await.unwrap(), self.model.revision());
        assert_eq!(all(self.store()).await, self.model.now().values().cloned().collect::<Vec<_>>());
    }

    /// Hands in all transactions before any is answered: they are decided in this order.
    async fn group(&mut self, group: Vec<(Picks, Picks)>) {
        let (mut txns, mut expected) = (Vec::new(), Vec::new());
        for (conditions, changes) in group {
            let txn = self.transaction(conditions, changes);
            expected.push(Ok(self.model.txn(&txn)));
            txns.push(txn);
        }
        // The model has run ahead, so guesses of later transactions already count on earlier ones.
        let store = self.store();
        let calls = txns.into_iter().map(|txn| store.txn(txn));
        let most = if self.subject.strict() { usize::MAX } else { 1 };
        let found: Vec<_> = futures::stream::iter(calls).buffered(most.min(64)).collect().await;
        assert_eq!(found, expected);
    }

    async fn snapshot(&self, at: u8) {
        let revision = self.revision(at);
        let expected = match self.store().snapshot(revision).await {
            Ok(snapshot) => {
                let expected: Vec<_> = self.model.at(revision).values().cloned().collect();
                assert_eq!((snapshot.revision, items(snapshot).await), (revision, expected.clone()));
                expected
            }
            Err(error) => {
                let at = self.model.compacted;
                return assert_eq!(
                    (error, revision < at),
                    (Error::Compacted { requested: revision, at }, true)
                );
            }
        };
        let (leases, keys) = (Vec::new(), futures::stream::iter([Ok(expected)]).boxed());
        let right = crate::Snapshot { revision, leases, items: keys }.hash().await;
        assert_eq!(self.store().hash(revision).await, right);
        let mut leases = self.model.leases.clone();
        leases.sort_unstable();
        assert_eq!(self.store().leases().await.unwrap(), leases);
        for lease in leases {
            let attached = self.model.now().values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone());
            assert_eq!(self.store().lease(lease).await.unwrap().keys, attached.collect::<Vec<_>>());
        }
    }

    fn transaction(&self, conditions: Picks, mut changes: Picks) -> Txn {
        let mut txn = Txn::default();
        for (key, guess) in conditions {
            let right = self.model.now().get(KEYS[key]).map_or(0, |kv| kv.mod_revision);
            txn = txn.when(KEYS[key], if guess < 200 { right } else { u64::from(guess) - 200 });
        }
        changes.sort_unstable();
        changes.dedup_by_key(|(key, _)| *key);
        for (key, kind) in changes {
            let lease = self.model.leases.get(usize::from(kind / 16)).copied().unwrap_or_default();
            txn = txn.and(match kind {
                200.. => Op::delete(KEYS[key]),
                _ => Op::put_with_lease(KEYS[key], format!("{}.{kind}", self.model.revision()), lease),
            });
        }
        txn
    }

    /// A revision somewhere between before the compacted one and the present, often just the compacted one.
    fn revision(&self, part: u8) -> Revision {
        if part > 200 {
            return self.model.compacted;
        }
        let first = self.model.compacted.saturating_sub(2).max(1);
        first + (self.model.revision() - first) * u64::from(part) / 200
    }

    async fn compact(&mut self, part: u8) {
        let revision = self.revision(part);
        let result = self.store().compact(revision).await;
        if revision < self.model.compacted {
            assert_eq!(result, Err(Error::Compacted { requested: revision, at: self.model.compacted }));
        } else {
            assert_eq!(result, Ok(()));
            self.model.compacted = revision;
        }
    }

    async fn range(&self, from: usize, limit: usize, at: u8) {
        let revision = self.revision(at);
        let range = Range::prefix(KEYS[from]).limit(limit).at(revision);
        let result = self.store().range(range.clone()).await;
        if revision < self.model.compacted {
            assert_eq!(result, Err(Error::Compacted { requested: revision, at: self.model.compacted }));
            return;
        }
        let mut items: Vec<_> = self
            .model
            .at(revision)
            .values()
            .filter(|kv| range.span.contains(kv.key.as_bytes()))
            .cloned()
            .collect();
        let count = items.len();
        items.truncate(if limit == 0 { count } else { limit });
        let result = result.unwrap();
        assert_eq!((result.revision, result.remaining as usize), (revision, count - items.len()));
        assert_eq!(result.items, items);
    }

    async fn watch(&self, key: usize, at: u8, previous: bool) {
        let from = WatchFrom { previous, ..WatchFrom::prefix(KEYS[key], self.revision(at)) };
        let (prefix, first) = (KEYS[key], from.revision);
        let mut watch = match self.store().watch(from).await {
            Ok(watch) => watch,
            Err(error) => {
                assert_eq!(error, Error::Compacted { requested: first, at: self.model.compacted });
                assert!(
                    first < self.model.compacted || (first == self.model.compacted && !self.subject.strict())
                );
                return;
            }
        };
        let wanted = |event: &&Event| event.revision() >= first && event.key().starts_with(prefix.as_bytes());
        let expected: Vec<_> = self.model.events.iter().filter(wanted).cloned().collect();
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.extend(watch.next().await.unwrap().unwrap().events);
        }
        seen.iter_mut().for_each(|event| self.strip_previous(event, previous));
        let mut expected = expected;
        if !self.subject.strict() {
            // etcd's events know of what they replaced only if that is asked for and still there.
            let gone = |event: &&mut Event| !previous || event.revision() <= self.model.compacted;
            seen.iter_mut().chain(&mut expected).filter(gone).for_each(|event| {
                let (Event::Put { previous_revision, .. } | Event::Delete { previous_revision, .. }) = event;
                *previous_revision = 0;
            });
        }
        assert_eq!(seen, expected);
        assert!(watch.next().now_or_never().is_none());
    }

    /// Checks the previous value of an event (it may be gone if it was replaced by the compacted revision) and
    /// removes it.
    fn strip_previous(&self, event: &mut Event, wanted: bool) {
        let text = shown_event(event);
        let revision = event.revision();
        let name = event.key().to_string();
        let (Event::Put { previous, .. } | Event::Delete { previous, .. }) = event;
        let was = previous.take();
        let may_be_gone = !wanted || revision <= self.model.compacted;
        if was.is_some() || !may_be_gone {
            assert!(wanted);
            assert_eq!(was.as_ref(), self.model.at(revision - 1).get(&name), "{text}");
        }
    }
}

async fn compare(subject: Box<dyn Subject>, steps: Vec<Step>) {
    let mut run = Run::new(subject);
    for step in steps {
        run.step(step).await;
    }
}

/// So many cases, or a part of what the environment asks for.
fn config(cases: u32, part: u32) -> ProptestConfig {
    // Not proptest's own variable, which overrides what is said here.
    let asked = std::env::var("TIPHYS_STORE_MODELS").ok().and_then(|n| n.parse::<u32>().ok());
    let cases = asked.map_or(cases, |asked| asked / part);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    // A longer run says so in the environment.
    #![proptest_config(config(150, 1))]

    #[test]
    fn the_engine_does_what_the_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(Box::new(OnMedium::new()), steps));
    }
}

proptest! {
    // Each case needs a server of its own.
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..config(6, 100) })]

    #[test]
    fn etcd_does_what_the_model_does(steps in prop::collection::vec(step(), 30..50)) {
        if !etcd::installed() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = etcd::Server::start();
            let store = Etcd::connect(&server.options()).await.unwrap();
            compare(Box::new(OnServer { server, store }), steps).await;
        });
    }
}
