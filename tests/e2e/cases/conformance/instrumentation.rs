//! Events, of both groups: the same objects under two names, each with its own words for what happened.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Run, Table};
use crate::harness::Namespace;
use crate::objects::{EVENT, Kind, Objects, names};

pub const AREA: &[Table] = &[CASES];

const CASES: Table = &[
    (
        &[
            "[sig-instrumentation] Events should ensure that an event can be fetched, patched, deleted, and listed",
        ],
        Run::Simulated(core_lifecycle),
    ),
    (
        &[
            "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed",
        ],
        Run::Simulated(lifecycle),
    ),
    (&["[sig-instrumentation] Events should delete a collection of events"], Run::Simulated(core_collection)),
    (&["[sig-instrumentation] Events API should delete a collection of events"], Run::Simulated(collection)),
];

/// Under their later name.
const EVENTS_EVENT: Kind = Kind::new("events.k8s.io/v1", "Event", "events");

fn core(ns: &Namespace<'_>, name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"testevent": "true"}}, "type": "Normal", "reason": "Test", "count": 1,
        "message": "said", "involvedObject": {"namespace": ns.name, "kind": "Pod", "name": "p"},
    })
}

fn later(ns: &Namespace<'_>, name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"testevent": "true"}}, "type": "Normal", "reason": "Test", "action": "Do",
        "note": "said", "regarding": {"namespace": ns.name, "kind": "Pod", "name": "p"},
        "eventTime": "2026-01-01T00:00:00.000001Z", "reportingController": "e2e", "reportingInstance": "e2e-1",
    })
}

/// Whether the event is listed in its namespace, and among those of all.
fn listed(objects: &Objects, kind: Kind, name: &str) -> Result<[bool; 2]> {
    let everywhere = objects.get(&format!("{}?labelSelector=testevent%3Dtrue", kind.path("")))?;
    let everywhere = everywhere["items"].as_array().cloned().unwrap_or_default();
    let here = objects.items(kind, "labelSelector=testevent%3Dtrue")?;
    Ok([names(&here).contains(&name), names(&everywhere).contains(&name)])
}

fn core_lifecycle(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let event = objects.at(EVENT, "event-of-core");
    event.create(core(ns, "event-of-core"))?;
    ensure!(listed(&objects, EVENT, "event-of-core")? == [true, true]);
    let patched = event.patch(&json!({"message": "said anew"}))?;
    ensure!(patched["message"] == "said anew" && event.get()?["message"] == "said anew", "{patched}");
    let updated = event.update(|event| {
        event["series"] = json!({"count": 100, "lastObservedTime": "2026-01-01T00:00:00.000001Z"})
    })?;
    ensure!(updated["series"]["count"] == 100 && event.get()?["series"] == updated["series"], "{updated}");
    event.delete(&Value::Null)?;
    ensure!(listed(&objects, EVENT, "event-of-core")? == [false, false]);
    Ok(())
}

fn lifecycle(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let event = objects.at(EVENTS_EVENT, "event-of-later");
    event.create(later(ns, "event-of-later"))?;
    ensure!(listed(&objects, EVENTS_EVENT, "event-of-later")? == [true, true]);
    let by_controller = objects.items(EVENTS_EVENT, "fieldSelector=reportingController%3De2e")?;
    ensure!(names(&by_controller) == ["event-of-later"], "{by_controller:?}");
    // It is the same object under its older name, in that group's words.
    let old = objects.at(EVENT, "event-of-later").get()?;
    ensure!(old["message"] == "said" && old["involvedObject"]["name"] == "p", "{old}");
    let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000002Z"});
    let patched = event.patch(&json!({ "series": series }))?;
    ensure!(patched["series"] == series, "{patched}");
    let series = json!({"count": 100, "lastObservedTime": "2026-01-01T00:00:00.000003Z"});
    event.update(|event| event["series"] = series.clone())?;
    ensure!(event.get()?["series"] == series);
    event.delete(&Value::Null)?;
    ensure!(listed(&objects, EVENTS_EVENT, "event-of-later")? == [false, false]);
    Ok(())
}

fn core_collection(ns: &Namespace<'_>) -> Result<()> {
    deletes_all(ns, EVENT, core)
}

fn collection(ns: &Namespace<'_>) -> Result<()> {
    deletes_all(ns, EVENTS_EVENT, later)
}

fn deletes_all(ns: &Namespace<'_>, kind: Kind, make: fn(&Namespace<'_>, &str) -> Value) -> Result<()> {
    let objects = Objects::of(ns)?;
    for name in ["a", "b", "c"] {
        objects.create(kind, make(ns, name))?;
    }
    let selector = "labelSelector=testevent%3Dtrue";
    ensure!(names(&objects.items(kind, selector)?) == ["a", "b", "c"]);
    objects.delete_all(kind, selector)?;
    ensure!(objects.items(kind, selector)?.is_empty());
    Ok(())
}
