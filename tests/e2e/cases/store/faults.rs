//! Clients of two API servers on one etcd, whose members are killed, paused and cut off meanwhile: nobody is lied to.
//!
//! Each writer counts in an object of its own, by its resourceVersion. A write that is told as lost may be done or not; one
//! that is told as done is there, at either server; one that is told as a conflict would be a lie, as nobody else writes there.
//! A watch at each server sees every object's versions in order, and the last of them all. `TIPHYS_E2E_FAULTS` sets how often
//! all is broken, once unless told.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use tokio::sync::watch;

use super::etcd::Etcd;
use crate::harness::{Cluster, PATIENCE, count, run};

const WRITERS: usize = 4;
/// Writes that must succeed after each fault, all writers together.
const PROGRESS: u64 = 24;
/// How long an answer may take; longer than a server waits for etcd.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a server may take to be itself again: a member that is away for a while is part of it.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// What the writers' objects are called.
const PREFIX: &str = "counter-";

type Maps = Api<ConfigMap>;

/// What one writer was told.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    done: u64,
    lost: u64,
}

type Tally = watch::Sender<[Told; WRITERS]>;

/// Breaks members of `etcd`, one way after the other, while clients of both servers write, read and watch.
pub fn under_load(etcd: &mut Etcd, servers: [&Cluster; 2]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let maps = [maps(servers[0]).await?, maps(servers[1]).await?];
        let tally = Arc::new(Tally::default());
        let start =
            maps[0].list(&Default::default()).await?.metadata.resource_version.context("no version")?;
        let watches = maps.clone().map(|maps| tokio::spawn(watch_all(maps, start.clone())));
        let enough = Arc::new(AtomicBool::new(false));
        let begin = |writer| tokio::spawn(write(writer, maps.clone(), tally.clone(), enough.clone()));
        let writers: Vec<_> = (0..WRITERS).map(begin).collect();
        faults(etcd, &tally).await?;
        // A write that nobody waits for any more would still be done, after the end.
        enough.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await?.context("a writer was lied to")?;
        }
        check(&maps, &tally.borrow(), watches).await
    })
}

async fn maps(server: &Cluster) -> Result<Maps> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.read_timeout = Some(ANSWER);
    // A client that tries a lost write again by itself is told of a conflict with itself.
    config.default_retry = false;
    Ok(Api::namespaced(Client::try_from(config)?, "default"))
}

async fn faults(etcd: &mut Etcd, tally: &Tally) -> Result<()> {
    works(tally).await?;
    for round in 0..count("TIPHYS_E2E_FAULTS", 1) {
        each_fault(etcd, tally).await.with_context(|| format!("in round {round}"))?;
    }
    Ok(())
}

async fn each_fault(etcd: &mut Etcd, tally: &Tally) -> Result<()> {
    etcd.members[0] = None;
    works(tally).await.context("a member was killed")?;
    etcd.members[0] = Some(etcd.spawn(0)?);
    signal(etcd, 1, "STOP")?;
    works(tally).await.context("a member was paused")?;
    signal(etcd, 1, "CONT")?;
    works(tally).await.context("it goes on")?;
    // Whoever speaks to this one is answered, but not by the cluster.
    etcd.link(false)?;
    works(tally).await.context("a member was cut off")?;
    etcd.link(true)?;
    works(tally).await.context("it is there again")?;
    // No majority is left: nothing can be done until it is there again.
    for member in [1, 2] {
        etcd.members[member] = None;
    }
    for member in [1, 2] {
        etcd.members[member] = Some(etcd.spawn(member)?);
    }
    works(tally).await.context("two members were killed")
}

fn signal(etcd: &Etcd, member: usize, name: &str) -> Result<()> {
    let member = etcd.members[member].as_ref().context("it does not run")?;
    run(Command::new("kill").args(["-s", name, &member.0.id().to_string()])).map(drop)
}

/// Waits until the writers have got on.
async fn works(tally: &Tally) -> Result<()> {
    let done = |told: &[Told; WRITERS]| told.iter().map(|told| told.done).sum::<u64>();
    let mut seen = tally.subscribe();
    let goal = done(&seen.borrow()) + PROGRESS;
    let reached = tokio::time::timeout(PATIENCE, seen.wait_for(|told| done(told) >= goal)).await;
    reached.map(drop).with_context(|| format!("nothing goes on: {:?}", tally.borrow()))
}

fn number(map: &ConfigMap) -> u64 {
    let text = map.data.as_ref().and_then(|data| data.get("n"));
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn set(map: &mut ConfigMap, key: &str, number: u64) {
    map.data.get_or_insert_default().insert(key.into(), number.to_string());
}

/// Whether it is not known if a write was done.
fn lost(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500 | 503 | 504),
        _ => true,
    }
}

/// Counts through one server and looks through the other, until it is enough; fails with what must not be.
async fn write(writer: usize, maps: [Maps; 2], tally: Arc<Tally>, enough: Arc<AtomicBool>) -> Result<()> {
    let (here, there) = (&maps[writer % 2], &maps[(writer + 1) % 2]);
    let name = format!("{PREFIX}{writer}");
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.clone());
    let mut map = here.create(&PostParams::default(), &map).await?;
    while !enough.load(Ordering::Relaxed) {
        let next = number(&map) + 1;
        set(&mut map, "n", next);
        match here.replace(&name, &PostParams::default(), &map).await {
            Ok(written) => {
                map = written;
                tally.send_modify(|told| told[writer].done += 1);
            }
            Err(error) if lost(&error) => {
                let found = tokio::time::timeout(SETTLED_WITHIN, settled(here, &name)).await;
                map = found.with_context(|| format!("{name} answers no more; first: {error:#}"))?;
                tally.send_modify(|told| told[writer].lost += 1);
                continue;
            }
            Err(error) => return Err(error).context("a write was refused"),
        }
        if let Ok(found) = there.get(&name).await {
            ensure!(
                number(&found) == next,
                "{name}: {next} was done, the other server has {}",
                number(&found)
            );
        }
    }
    Ok(())
}

/// The state after a lost write: it may still be under way, so a write of another kind comes first, after which it can only
/// be refused.
async fn settled(maps: &Maps, name: &str) -> ConfigMap {
    for round in 0.. {
        let Ok(mut map) = maps.get(name).await else { continue };
        let settled = round + number(&map);
        set(&mut map, "settled", settled);
        let before = map.resource_version();
        match maps.replace(name, &PostParams::default(), &map).await {
            Ok(written) if written.resource_version() != before => return written,
            _ => {}
        }
    }
    unreachable!("there is always another round")
}

type Versions = BTreeMap<String, u64>;

/// Follows the counters from a version on; ends with the versions that it saw last, once it saw the end.
async fn watch_all(maps: Maps, start: String) -> Result<Versions> {
    let (mut from, mut seen) = (start, Versions::new());
    loop {
        let Ok(events) = maps.watch(&WatchParams::default(), &from).await else { continue };
        let mut events = std::pin::pin!(events.into_stream());
        // A stream that ends, or breaks, is begun again where it was.
        while let Some(Ok(event)) = events.next().await {
            let map = match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => map,
                WatchEvent::Error(status) => anyhow::bail!("the watch lost its place: {status:?}"),
                WatchEvent::Bookmark(_) | WatchEvent::Deleted(_) => continue,
            };
            from = map.resource_version().context("no version")?;
            let (version, name) = (from.parse()?, map.name_any());
            let before = seen.insert(name.clone(), version);
            ensure!(before.is_none_or(|before| before < version), "{name}: {version} came after {before:?}");
            if name == "end" {
                return Ok(seen);
            }
        }
    }
}

async fn check(
    maps: &[Maps; 2],
    told: &[Told; WRITERS],
    watches: [tokio::task::JoinHandle<Result<Versions>>; 2],
) -> Result<()> {
    let mut end = ConfigMap::default();
    end.metadata.name = Some("end".into());
    maps[0].create(&PostParams::default(), &end).await?;
    let mut versions = Vec::new();
    for maps in maps {
        let listed = maps.list(&Default::default()).await?.items;
        let counters = listed.iter().filter(|map| map.name_any().starts_with(PREFIX));
        for (writer, counter) in counters.enumerate() {
            let (number, Told { done, lost }) = (number(counter), told[writer]);
            let fits = number >= done && number <= done + lost;
            ensure!(fits, "writer {writer}: {number}, but {done} done, {lost} lost");
        }
        let version = |map: &ConfigMap| Some((map.name_any(), map.resource_version()?.parse().ok()?));
        versions.push(listed.iter().filter_map(version).collect::<Versions>());
    }
    ensure!(versions[0] == versions[1], "the servers differ: {versions:?}");
    for watched in watches {
        let seen =
            tokio::time::timeout(PATIENCE, watched).await.context("a watch has not seen the end")???;
        let last = |name: &String| versions[0].get(name);
        let missed: Vec<_> = seen.iter().filter(|(name, version)| last(name) != Some(version)).collect();
        ensure!(
            missed.is_empty() && seen.len() == WRITERS + 1,
            "a watch saw {seen:?}, there is {versions:?}"
        );
    }
    eprintln!("{told:?}");
    Ok(())
}
