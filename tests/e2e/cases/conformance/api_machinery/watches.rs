//! Watches: every change once, in order, from any point that is remembered.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{At, CONFIG_MAP, Objects};

pub const CASES: Table = &[
    (
        &[
            "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps",
        ],
        Run::Simulated(observes),
    ),
    (
        &[
            "[sig-api-machinery] Watchers should be able to start watching from a specific resource version",
            "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by \
             the previous watch",
        ],
        Run::Simulated(starts_and_restarts),
    ),
    (
        &[
            "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the \
             selector",
        ],
        Run::Simulated(selected),
    ),
    (
        &["[sig-api-machinery] Watchers should receive events on concurrent watches in same order"],
        Run::Simulated(same_order),
    ),
];

fn map<'a>(objects: &'a Objects, name: &str, label: &str) -> Result<At<'a>> {
    let map = objects.at(CONFIG_MAP, name);
    map.create(json!({"metadata": {"labels": {"watched": label}}}))?;
    Ok(map)
}

fn mutate(map: &At<'_>, mutation: u32) -> Result<Value> {
    map.merge(&json!({"data": {"mutation": mutation.to_string()}}))
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

fn observes(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut of_a = objects.watch(CONFIG_MAP, "labelSelector=watched=a")?;
    let mut of_b = objects.watch(CONFIG_MAP, "labelSelector=watched=b")?;
    let mut of_both = objects.watch(CONFIG_MAP, "labelSelector=watched%20in%20(a,b)")?;
    let a = map(&objects, "a", "a")?;
    mutate(&a, 1)?;
    mutate(&a, 2)?;
    a.delete(&Value::Null)?;
    map(&objects, "b", "b")?.delete(&Value::Null)?;
    for watch in [&mut of_a, &mut of_both] {
        watch.expect("ADDED", "a")?;
        for mutation in ["1", "2"] {
            ensure!(watch.expect("MODIFIED", "a")?["data"]["mutation"] == mutation);
        }
        watch.expect("DELETED", "a")?;
    }
    for watch in [&mut of_b, &mut of_both] {
        watch.expect("ADDED", "b")?;
        watch.expect("DELETED", "b")?;
    }
    Ok(())
}

fn starts_and_restarts(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let a = map(&objects, "a", "a")?;
    let first = mutate(&a, 1)?;
    mutate(&a, 2)?;
    a.delete(&Value::Null)?;
    let from = |version: &str| {
        objects.watch(CONFIG_MAP, &format!("labelSelector=watched=a&resourceVersion={version}"))
    };
    // From a point in the past: only what came after it.
    let mut watch = from(version(&first))?;
    let second = watch.expect("MODIFIED", "a")?;
    ensure!(second["data"]["mutation"] == "2", "{second}");
    drop(watch);
    // Another goes on where this one ended.
    let mut watch = from(version(&second))?;
    let last = watch.expect("DELETED", "a")?;
    ensure!(last["data"]["mutation"] == "2" && version(&last) != version(&second), "{last}");
    map(&objects, "a", "a")?;
    watch.expect("ADDED", "a").map(drop)
}

fn selected(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut watch = objects.watch(CONFIG_MAP, "labelSelector=watched=yes")?;
    let a = map(&objects, "a", "yes")?;
    let label = |label: &str| a.merge(&json!({"metadata": {"labels": {"watched": label}}}));
    mutate(&a, 1)?;
    label("no")?;
    mutate(&a, 2)?;
    label("yes")?;
    mutate(&a, 3)?;
    a.delete(&Value::Null)?;
    watch.expect("ADDED", "a")?;
    watch.expect("MODIFIED", "a")?;
    let left = watch.expect("DELETED", "a")?;
    ensure!(left["data"]["mutation"] == "1", "{left}");
    let back = watch.expect("ADDED", "a")?;
    ensure!(back["data"]["mutation"] == "2", "{back}");
    ensure!(watch.expect("MODIFIED", "a")?["data"]["mutation"] == "3");
    watch.expect("DELETED", "a").map(drop)
}

/// Each event's version begins a watch of its own; all of them see the same from there.
fn same_order(ns: &Namespace<'_>) -> Result<()> {
    const CHANGES: usize = 24;
    let objects = Objects::of(ns)?;
    let start = objects.list(CONFIG_MAP, "")?["metadata"]["resourceVersion"].take();
    let mut first =
        objects.watch(CONFIG_MAP, &format!("resourceVersion={}", start.as_str().unwrap_or_default()))?;
    std::thread::scope(|scope| {
        // A client of its own writes while the watches begin.
        let writer = scope.spawn(|| write(&Objects::of(ns)?, CHANGES));
        let mut seen: Vec<String> = Vec::new();
        let mut watches = Vec::new();
        for _ in 0..CHANGES {
            let (_, object) = first.next()?;
            seen.push(version(&object).to_owned());
            watches.push(objects.watch(CONFIG_MAP, &format!("resourceVersion={}", version(&object)))?);
        }
        for (at, watch) in watches.iter_mut().enumerate() {
            for expected in seen.iter().skip(at + 1) {
                let (_, object) = watch.next()?;
                ensure!(version(&object) == expected, "{} where another has {expected}", version(&object));
            }
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })
}

/// So many changes to a few objects.
fn write(objects: &Objects, changes: usize) -> Result<()> {
    for at in 0..changes / 3 {
        let a = map(objects, &format!("map-{}", at % 4), "a")?;
        mutate(&a, 1)?;
        a.delete(&Value::Null)?;
    }
    Ok(())
}
