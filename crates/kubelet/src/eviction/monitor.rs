//! Reads what there is, and acts on what is decided.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::decide::{self, Decision, Met, Readings};
use super::rank::{self, Candidate};
use super::{Pressure, Signal, local};
use crate::context::Context;
use crate::gc::images::Images;
use crate::manager::Manager;
use crate::stats::disk::{self, Disk};
use crate::stats::group::Usage;
use crate::stats::machine;
use crate::stats::sample::{self, ContainerSample, Detail, PodSample};
use crate::volumes::usage::Held;

/// How long a pod may take to end before the next is evicted.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// What a pod that is over its limits is left, in seconds: a moment.
const AT_ONCE: i64 = 1;

/// Looks after what is short.
#[derive(Default)]
pub(crate) struct Monitor {
    memory: decide::Memory,
    /// Where images are; asked once.
    image_dir: Option<PathBuf>,
    /// The pod evicted last, and when.
    evicted: Option<(String, Timestamp)>,
}

/// What a look came to.
#[derive(Default)]
pub(crate) struct Look {
    /// What the node is to tell.
    pub(crate) pressures: BTreeSet<Pressure>,
    /// Something was done, so that it is worth looking again soon.
    pub(crate) acted: bool,
}

impl Monitor {
    /// Looks, and ends one pod if it must.
    pub(crate) async fn look(&mut self, manager: &Manager, images: &mut Images, now: Timestamp) -> Look {
        let ctx = manager.context();
        let over = evict_over_limits(manager).await;
        let Decision { pressures, act } = self.decide(&ctx, now).await;
        if over {
            // What they leave may be enough.
            return Look { pressures, acted: true };
        }
        let Some(met) = act else { return Look { pressures, acted: false } };
        if self.waits(manager, now) {
            return Look { pressures, acted: true };
        }
        let reference = ctx.node_reference();
        let what = format!("Attempting to reclaim {}", met.signal.resource());
        ctx.recorder.event(&reference, "Warning", "EvictionThresholdMet", what);
        if met.signal.pressure() == Pressure::Disk && images.free_all(&ctx, now).await {
            // What nobody needs was removed first; it may have been enough.
            let again = self.decide(&ctx, now).await;
            if again.act.as_ref().is_none_or(|again| again.signal != met.signal) {
                return Look { pressures: again.pressures, acted: true };
            }
        }
        self.evicted = evict(manager, &met).await.map(|uid| (uid, now));
        Look { pressures, acted: self.evicted.is_some() }
    }

    /// Whether the pod evicted last has not ended yet: what it leaves may be enough.
    fn waits(&self, manager: &Manager, now: Timestamp) -> bool {
        let Some((uid, at)) = &self.evicted else { return false };
        let phase = |pod: Pod| pod.status.and_then(|status| status.phase).unwrap_or_default();
        let ends = manager.pod(uid).is_some_and(|pod| phase(pod) != "Failed");
        ends && now.duration_since(*at) < PATIENCE
    }

    async fn decide(&mut self, ctx: &Context, now: Timestamp) -> Decision {
        if self.image_dir.is_none() {
            let file_systems = ctx.runtime.image_fs().await.unwrap_or_default();
            self.image_dir = file_systems.into_iter().next().map(|found| found.mountpoint);
        }
        let (root, images) = (ctx.config.root_dir.clone(), self.image_dir.clone());
        let read = tokio::task::spawn_blocking(move || readings(&root, images.as_deref())).await;
        decide::decide(&ctx.config.settings, &mut self.memory, &read.unwrap_or_default(), now)
    }
}

fn readings(root: &std::path::Path, images: Option<&std::path::Path>) -> Readings {
    let mut readings = Readings::new();
    if let Some(memory) = machine::usage().memory {
        let capacity = memory.limit.unwrap_or_default();
        let available = capacity.saturating_sub(memory.working_set);
        readings.insert(Signal::Memory, decide::Reading { available, capacity });
    }
    let disks = [
        (Some(root), Signal::NodeDisk, Signal::NodeInodes),
        (images, Signal::ImageDisk, Signal::ImageInodes),
    ];
    for (path, bytes, inodes) in disks {
        let Some(found) = path.and_then(machine::file_system) else { continue };
        readings.insert(bytes, decide::Reading { available: found.available, capacity: found.capacity });
        // A file system that makes inodes as it needs them has none to run out of.
        if found.inodes > 0 {
            let reading = decide::Reading { available: found.inodes_free, capacity: found.inodes };
            readings.insert(inodes, reading);
        }
    }
    if let Some(processes) = machine::processes() {
        let available = processes.most.saturating_sub(processes.now);
        readings.insert(Signal::Processes, decide::Reading { available, capacity: processes.most });
    }
    readings
}

/// Ends the pods that have more on the disk than their own limits let them. Whether there were any.
async fn evict_over_limits(manager: &Manager) -> bool {
    let (ctx, limited) = (manager.context(), manager.limited());
    if limited.is_empty() {
        return false;
    }
    let Ok(mut sample) = sample::take(&ctx, Detail::All).await else { return false };
    sample.pods.retain(|one| limited.contains(&one.uid));
    let disk = disk::of_pods(&ctx, &sample).await;
    let mut over = false;
    for one in &sample.pods {
        let (Some(pod), Some(held)) = (manager.pod(&one.uid), disk.get(&one.uid)) else { continue };
        let Some(message) = local::exceeded(&pod, one, held) else { continue };
        tracing::warn!(pod = crate::pod::full_name(&pod), message, "evicting a pod");
        over |= manager.evict(&one.uid, message, AT_ONCE);
    }
    over
}

/// Ends the pod whose turn it is, if there is one; its uid.
async fn evict(manager: &Manager, met: &Met) -> Option<String> {
    let ctx = manager.context();
    let sample = match sample::take(&ctx, Detail::All).await {
        Ok(sample) => sample,
        Err(error) => {
            tracing::warn!(%error, "cannot see what pods use, so none is evicted");
            return None;
        }
    };
    let disk = match met.signal.pressure() {
        Pressure::Disk => disk::of_pods(&ctx, &sample).await,
        _ => Default::default(),
    };
    let mut candidates = Vec::new();
    for one in &sample.pods {
        let Some(pod) = manager.pod(&one.uid) else { continue };
        let held = disk.get(&one.uid).cloned().unwrap_or_default();
        candidates.push(candidate(met.signal, one, pod, &held));
    }
    for candidate in rank::rank(candidates, met.signal) {
        let message = rank::message(met, &candidate);
        if manager.evict(&candidate.uid, message, met.grace) {
            tracing::warn!(
                pod = crate::pod::full_name(&candidate.pod),
                signal = met.signal.name(),
                "evicting a pod"
            );
            ctx.stats.evictions.with(&format!("eviction_signal=\"{}\"", met.signal.name())).add(1);
            return Some(candidate.uid);
        }
    }
    None
}

fn candidate(signal: Signal, one: &PodSample, pod: Pod, disk: &Disk) -> Candidate {
    let running = |usage: &Usage| match signal {
        Signal::Processes => usage.processes.unwrap_or_default(),
        _ => usage.memory.map(|memory| memory.working_set).unwrap_or_default(),
    };
    let on_disk = |held: Held| match signal {
        Signal::NodeInodes | Signal::ImageInodes => held.inodes,
        _ => held.bytes,
    };
    let is_disk = signal.pressure() == Pressure::Disk;
    let of_container = |c: &ContainerSample| match is_disk {
        true => on_disk(disk.of_container(&c.name, c.layer)),
        false => running(&c.usage),
    };
    let containers = one.containers.iter().map(|c| (c.name.clone(), of_container(c))).collect();
    let used = if is_disk { on_disk(disk.of_pod(one)) } else { running(&one.usage) };
    Candidate { uid: one.uid.clone(), pod, used, containers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_short_of_inodes_counts_inodes() {
        let layer = Some(Held { bytes: 5000, inodes: 3 });
        let container = ContainerSample { name: "c".into(), layer, ..ContainerSample::default() };
        let one = PodSample { containers: vec![container], ..PodSample::default() };
        let disk = Disk { logs: [("c".to_owned(), Held { bytes: 70, inodes: 2 })].into(), ..Disk::default() };
        let used = |signal| candidate(signal, &one, Pod::default(), &disk).used;
        assert_eq!((used(Signal::NodeInodes), used(Signal::NodeDisk), used(Signal::Memory)), (5, 5070, 0));
    }
}
