//! The part of the contract that is about scripts. See [`super::conformance`].

use std::sync::Arc;
use std::time::Duration;

use super::conformance::{Case, put};
use super::{all, next, shown};
use crate::{
    Condition, Done, Error, Is, KeyValue, Operand, Put, Range, Script, ScriptResult, Span, Step, Store,
    WatchFrom,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("conditions", |store| Box::pin(conditions(store))),
    ("conditions_on_spans", |store| Box::pin(conditions_on_spans(store))),
    ("steps_see_each_other", |store| Box::pin(steps_see_each_other(store))),
    ("inner_scripts", |store| Box::pin(inner_scripts(store))),
    ("puts_that_keep", |store| Box::pin(puts_that_keep(store))),
    ("deletes_of_spans", |store| Box::pin(deletes_of_spans(store))),
    ("scripts_read_the_past", |store| Box::pin(scripts_read_the_past(store))),
    ("nothing_is_written_twice", |store| Box::pin(nothing_is_written_twice(store))),
];

fn write(key: &str, value: &'static str) -> Step {
    Step::Put(Put::new(key, value))
}

fn read(key: &str) -> Step {
    Step::Range(Range::key(key))
}

async fn run(store: &dyn Store, script: Script) -> ScriptResult {
    store.run(script).await.unwrap()
}

/// `key=value` for each key of a step that read.
fn found(done: &Done) -> String {
    let items: &[KeyValue] = match done {
        Done::Range(result) => &result.items,
        Done::Put { previous } => previous.as_slice(),
        Done::Delete { previous, .. } => previous,
        Done::Script(_) => &[],
    };
    let show = |kv: &KeyValue| format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value));
    items.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// Whether one condition holds.
async fn holds(store: &dyn Store, condition: Condition) -> bool {
    run(store, Script { conditions: vec![condition], ..Script::default() }).await.held
}

async fn conditions(store: Arc<dyn Store>) {
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    put(&*store, "/a", "1").await; // 2
    let attached = Put { lease: Some(lease), ..Put::new("/a", "m") };
    run(&*store, Script::new(Step::Put(attached))).await; // 3
    for (is, expected) in [
        (Is::Equal, [false, true, false]),
        (Is::NotEqual, [true, false, true]),
        (Is::Greater, [true, false, false]),
        (Is::Less, [false, false, true]),
    ] {
        // What is there is greater than, equal to, less than each of these.
        let operands = [
            [Operand::Version(1), Operand::Version(2), Operand::Version(3)],
            [Operand::CreateRevision(1), Operand::CreateRevision(2), Operand::CreateRevision(3)],
            [Operand::ModRevision(2), Operand::ModRevision(3), Operand::ModRevision(4)],
            [Operand::Lease(lease - 1), Operand::Lease(lease), Operand::Lease(lease + 1)],
            [Operand::Value("lz".into()), Operand::Value("m".into()), Operand::Value("ma".into())],
        ];
        for operands in operands {
            for (to, expected) in operands.into_iter().zip(expected) {
                let condition = Condition::key("/a", is, to);
                assert_eq!(holds(&*store, condition.clone()).await, expected, "{condition:?}");
            }
        }
    }
    // One that does not exist has all numbers 0, and no value.
    for to in [Operand::Version(0), Operand::CreateRevision(0), Operand::ModRevision(0), Operand::Lease(0)] {
        assert!(holds(&*store, Condition::key("/b", Is::Equal, to)).await);
    }
    for is in [Is::Equal, Is::NotEqual, Is::Less] {
        assert!(!holds(&*store, Condition::key("/b", is, Operand::Value("1".into()))).await);
    }
    assert_eq!(store.revision().await.unwrap(), 3, "a script without changes takes no revision");
}

async fn conditions_on_spans(store: Arc<dyn Store>) {
    put(&*store, "/p/a", "1").await; // 2
    put(&*store, "/p/b", "1").await; // 3
    let about = |prefix: &str, is, to| Condition { span: Span::prefix(prefix), is, to };
    assert!(holds(&*store, about("/p/", Is::Less, Operand::ModRevision(4))).await);
    assert!(!holds(&*store, about("/p/", Is::Less, Operand::ModRevision(3))).await);
    assert!(holds(&*store, about("/p/", Is::Equal, Operand::Value("1".into()))).await);
    assert!(holds(&*store, about("/q/", Is::Equal, Operand::CreateRevision(0))).await);
    assert!(!holds(&*store, about("/q/", Is::Greater, Operand::CreateRevision(0))).await);
}

async fn steps_see_each_other(store: Arc<dyn Store>) {
    let mut watch = store.watch(WatchFrom::prefix("/", 0)).await.unwrap();
    let script = Script {
        conditions: vec![Condition::key("/a", Is::Equal, Operand::ModRevision(0))],
        then: vec![
            read("/a"),
            write("/a", "1"),
            read("/a"),
            write("/b", "2"),
            Step::Range(Range::prefix("/")),
        ],
        otherwise: vec![read("/a")],
    };
    let made = run(&*store, script.clone()).await;
    assert_eq!((made.held, made.revision), (true, 2));
    let seen: Vec<_> = made.steps.iter().map(found).collect();
    assert_eq!(seen, ["", "", "/a=1", "", "/a=1 /b=2"]);
    assert_eq!(shown(&next(&mut watch).await), ["2 /a=1", "2 /b=2"]);
    let refused = run(&*store, script).await;
    assert_eq!((refused.held, refused.revision, found(&refused.steps[0])), (false, 2, "/a=1".into()));
    let Done::Range(result) = &refused.steps[0] else { panic!("{refused:?}") };
    assert_eq!((result.items[0].mod_revision, result.items[0].version), (2, 1));
}

async fn inner_scripts(store: Arc<dyn Store>) {
    let inner = Script {
        // Judged by what was there before the whole script.
        conditions: vec![Condition::key("/a", Is::Equal, Operand::ModRevision(0))],
        then: vec![write("/b", "absent"), read("/a")],
        otherwise: vec![write("/b", "there")],
    };
    let script = Script { then: vec![write("/a", "1"), Step::Script(inner)], ..Script::default() };
    let done = run(&*store, script.clone()).await;
    let Done::Script(inner) = &done.steps[1] else { panic!("{done:?}") };
    assert_eq!((inner.held, inner.revision, found(&inner.steps[1])), (true, 2, "/a=1".into()));
    let done = run(&*store, script).await;
    assert!(matches!(&done.steps[1], Done::Script(inner) if !inner.held));
    assert_eq!(store.get("/b".into()).await.unwrap().unwrap().value, "there");
}

async fn puts_that_keep(store: Arc<dyn Store>) {
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let first = Put { lease: Some(lease), ..Put::new("/a", "1") };
    run(&*store, Script::new(Step::Put(first))).await;
    let touch = Put { value: None, lease: None, previous: true, ..Put::new("/a", "") };
    let touched = run(&*store, Script::new(Step::Put(touch.clone()))).await;
    assert_eq!(found(&touched.steps[0]), "/a=1");
    let kv = store.get("/a".into()).await.unwrap().unwrap();
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"1"[..], lease, 2));
    let free = Put { value: None, ..Put::new("/a", "") };
    run(&*store, Script::new(Step::Put(free))).await;
    assert_eq!(store.get("/a".into()).await.unwrap().unwrap().lease, 0);
    let missing = Put { key: "/b".into(), ..touch };
    let script = Script { then: vec![write("/c", "1"), Step::Put(missing)], ..Script::default() };
    assert_eq!(store.run(script).await, Err(Error::KeyNotFound("/b".into())));
    let orphan = Put { lease: Some(lease + 1_000_000), ..Put::new("/d", "") };
    let script = Script { then: vec![write("/c", "1"), Step::Put(orphan)], ..Script::default() };
    assert_eq!(store.run(script).await, Err(Error::LeaseNotFound(lease + 1_000_000)));
    assert_eq!(all(&*store).await.len(), 1, "an error leaves nothing behind");
}

async fn deletes_of_spans(store: Arc<dyn Store>) {
    for key in ["/p/a", "/p/b", "/q"] {
        put(&*store, key, "1").await;
    }
    let delete = |previous| Script::new(Step::Delete { span: Span::prefix("/p/"), previous });
    let mut watch = store.watch(WatchFrom::span(Span::key("/p/b"), 0)).await.unwrap();
    let done = run(&*store, delete(true)).await;
    assert_eq!((found(&done.steps[0]), done.revision), ("/p/a=1 /p/b=1".into(), 5));
    assert!(matches!(done.steps[0], Done::Delete { deleted: 2, .. }));
    assert_eq!(shown(&next(&mut watch).await), ["5 -/p/b"]);
    let nothing = run(&*store, delete(true)).await;
    assert_eq!((&nothing.steps[0], nothing.revision), (&Done::Delete { deleted: 0, previous: vec![] }, 5));
    assert_eq!(all(&*store).await.len(), 1);
}

async fn scripts_read_the_past(store: Arc<dyn Store>) {
    put(&*store, "/a", "1").await; // 2
    put(&*store, "/a", "2").await; // 3
    let at = |revision| Script {
        then: vec![write("/b", "1"), Step::Range(Range::prefix("/").at(revision))],
        ..Script::default()
    };
    assert_eq!(found(&run(&*store, at(2)).await.steps[1]), "/a=1");
    store.compact(3).await.unwrap();
    assert_eq!(store.run(at(2)).await, Err(Error::Compacted { requested: 2, at: 3 }));
    assert!(matches!(store.run(at(90)).await, Err(Error::FutureRevision { requested: 90, .. })));
    assert_eq!(store.get("/b".into()).await.unwrap().unwrap().version, 1, "an error leaves nothing behind");
}

async fn nothing_is_written_twice(store: Arc<dyn Store>) {
    let delete = |prefix: &str| Step::Delete { span: Span::prefix(prefix), previous: false };
    let then = |then| Script { then, ..Script::default() };
    let inner = |steps| Step::Script(then(steps));
    for steps in [
        vec![write("/a", "1"), write("/a", "2")],
        vec![write("/a", "1"), delete("/")],
        vec![delete("/"), write("/a", "1")],
        vec![write("/a", "1"), inner(vec![write("/a", "2")])],
        vec![inner(vec![write("/a", "1")]), inner(vec![delete("/a")])],
        vec![delete("/"), inner(vec![write("/a", "1")])],
    ] {
        let refused = store.run(then(steps.clone())).await;
        assert_eq!(refused, Err(Error::DuplicateKey("/a".into())), "{steps:?}");
        // In the branch that is not taken as well.
        let script = Script { otherwise: steps, ..Script::default() };
        assert_eq!(store.run(script).await, Err(Error::DuplicateKey("/a".into())));
    }
    // Either branch may write it; deleting twice is no harm.
    let either = Script { then: vec![write("/a", "1")], otherwise: vec![delete("/")], ..Script::default() };
    let script = then(vec![Step::Script(either), delete("/b"), delete("/b")]);
    assert_eq!(run(&*store, script).await.revision, 2);
}
