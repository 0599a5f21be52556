//! `/stats/summary`: a reading as the kubelet's own statistics API tells it.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::disk::Disk;
use super::group::Usage;
use super::machine::{FileSystem, Interface, Processes};
use super::sample::{ContainerSample, PodSample, Sample};
use crate::volumes::usage::Held;

/// What the answer tells beside a [`Sample`].
pub(crate) struct Beside {
    pub(crate) node_name: String,
    pub(crate) booted: Timestamp,
    /// Memory of the machine in bytes.
    pub(crate) memory: u64,
    pub(crate) root: Option<FileSystem>,
    pub(crate) images: Option<FileSystem>,
    /// Bytes that images take.
    pub(crate) images_used: Option<u64>,
    pub(crate) processes: Option<Processes>,
    pub(crate) interfaces: Vec<Interface>,
    /// Logs and volumes, by the pod's uid.
    pub(crate) disk: HashMap<String, Disk>,
}

/// Processor time used before, by group: rates are the difference to it.
pub(crate) type Before = HashMap<PathBuf, (Timestamp, u64)>;

/// What the next answer's rates start from. The empty path is the node.
pub(crate) fn before(sample: &Sample) -> Before {
    let one = |group: Option<&PathBuf>, usage: &Usage| Some((group?.clone(), (usage.at, usage.cpu?.total)));
    let node = PathBuf::new();
    let mut all: Before = one(Some(&node), &sample.node).into_iter().collect();
    for pod in &sample.pods {
        all.extend(one(pod.group.as_ref(), &pod.usage));
        all.extend(pod.containers.iter().filter_map(|c| one(c.group.as_ref(), &c.usage)));
    }
    all
}

/// The whole answer.
pub(crate) fn summary(sample: &Sample, before: &Before, beside: &Beside) -> Value {
    let node = PathBuf::new();
    let at = sample.node.at;
    let pods: Vec<Value> = sample.pods.iter().map(|one| pod(one, before, beside)).collect();
    let all = |fs: &FileSystem| Held { bytes: fs.used, inodes: fs.inodes_used() };
    let images = |fs: &FileSystem| Held { bytes: beside.images_used.unwrap_or(fs.used), ..all(fs) };
    let mut told = usage(Some(&node), &sample.node, before, Some(beside.memory));
    told.extend(object(json!({
        "nodeName": beside.node_name,
        "startTime": whole(beside.booted),
        "network": network(&beside.interfaces, at),
        "fs": beside.root.map(|fs| file_system(&fs, all(&fs), at)),
        "runtime": {"imageFs": beside.images.map(|fs| file_system(&fs, images(&fs), at))},
        "rlimit": beside.processes.map(|p| json!({"time": whole(at), "maxpid": p.most, "curproc": p.now})),
    })));
    json!({"node": told, "pods": pods})
}

fn pod(pod: &PodSample, before: &Before, beside: &Beside) -> Value {
    let disk = beside.disk.get(&pod.uid).cloned().unwrap_or_default();
    let at = pod.usage.at;
    let on_root = |used: Held| beside.root.map(|fs| file_system(&fs, used, at));
    let containers: Vec<Value> =
        pod.containers.iter().map(|one| container(one, before, beside, &disk)).collect();
    let volumes: Vec<Value> = disk
        .volumes
        .iter()
        .map(|volume| {
            let mut told = on_root(volume.held).map(object).unwrap_or_default();
            told.insert("name".into(), volume.name.as_str().into());
            Value::Object(told)
        })
        .collect();
    let mut told = object(json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": whole(pod.created),
        "containers": containers,
        "network": network(&pod.interfaces, at),
        "volume": volumes,
        "ephemeral-storage": on_root(disk.of_pod(pod)),
        "process_stats": {"process_count": pod.usage.processes},
    }));
    told.extend(usage(pod.group.as_ref(), &pod.usage, before, None));
    Value::Object(told)
}

fn container(one: &ContainerSample, before: &Before, beside: &Beside, disk: &Disk) -> Value {
    let at = one.usage.at;
    let logs = disk.logs.get(&one.name).copied();
    let mut told = object(json!({
        "name": one.name,
        "startTime": whole(one.created),
        "rootfs": beside.images.zip(one.layer).map(|(fs, used)| file_system(&fs, used, at)),
        "logs": beside.root.zip(logs).map(|(fs, used)| file_system(&fs, used, at)),
    }));
    told.extend(usage(one.group.as_ref(), &one.usage, before, None));
    Value::Object(told)
}

/// `cpu`, `memory` and `swap`. `capacity` is the node's memory: who has a limit has that much.
fn usage(
    group: Option<&PathBuf>,
    usage: &Usage,
    before: &Before,
    capacity: Option<u64>,
) -> Map<String, Value> {
    let time = whole(usage.at);
    let mut told = Map::new();
    if let Some(cpu) = usage.cpu {
        let rate =
            group.and_then(|group| before.get(group)).and_then(|then| rate(*then, (usage.at, cpu.total)));
        let cpu = json!({"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": cpu.total});
        told.insert("cpu".into(), Value::Object(object(cpu)));
    }
    if let Some(memory) = usage.memory {
        let most = capacity.or(memory.limit);
        told.insert(
            "memory".into(),
            Value::Object(object(json!({
                "time": time,
                "availableBytes": most.map(|most| most.saturating_sub(memory.working_set)),
                "usageBytes": memory.usage,
                "workingSetBytes": memory.working_set,
                "rssBytes": memory.rss,
                "pageFaults": memory.faults,
                "majorPageFaults": memory.major_faults,
            }))),
        );
        told.insert("swap".into(), json!({"time": time, "swapUsageBytes": memory.swap}));
    }
    told
}

/// Nanoseconds of processor time a second between two readings of (when, nanoseconds).
pub(crate) fn rate(then: (Timestamp, u64), now: (Timestamp, u64)) -> Option<u64> {
    let passed = now.0.duration_since(then.0);
    if passed <= SignedDuration::ZERO {
        return None;
    }
    let used = now.1.checked_sub(then.1)?;
    let rate = u128::from(used) * 1_000_000_000 / u128::try_from(passed.as_nanos()).ok()?;
    u64::try_from(rate).ok()
}

fn file_system(fs: &FileSystem, used: Held, at: Timestamp) -> Value {
    json!({
        "time": whole(at), "availableBytes": fs.available, "capacityBytes": fs.capacity, "usedBytes": used.bytes,
        "inodesFree": fs.inodes_free, "inodes": fs.inodes, "inodesUsed": used.inodes,
    })
}

fn network(interfaces: &[Interface], at: Timestamp) -> Option<Value> {
    let told = |interface: &Interface| {
        object(json!({
            "name": interface.name, "rxBytes": interface.received.bytes, "rxErrors": interface.received.errors,
            "txBytes": interface.sent.bytes, "txErrors": interface.sent.errors,
        }))
    };
    let main = interfaces.iter().find(|one| one.name == "eth0").or(interfaces.first())?;
    let mut all = told(main);
    all.insert("time".into(), whole(at).into());
    all.insert("interfaces".into(), interfaces.iter().map(|one| Value::Object(told(one))).collect());
    Some(Value::Object(all))
}

fn whole(at: Timestamp) -> String {
    crate::status::whole_seconds(at).to_string()
}

/// The fields of an object that have a value.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::disk::Volume;
    use crate::stats::group::{Cpu, Memory};

    fn beside() -> Beside {
        Beside {
            node_name: "n1".into(),
            booted: Timestamp::UNIX_EPOCH,
            memory: 1000,
            root: Some(FileSystem { capacity: 100, used: 60, available: 40, inodes: 10, inodes_free: 9 }),
            images: None,
            images_used: None,
            processes: None,
            interfaces: Vec::new(),
            disk: [(
                "u".to_owned(),
                Disk {
                    logs: [("c".to_owned(), Held { bytes: 3, inodes: 1 })].into(),
                    volumes: vec![Volume {
                        name: "v".into(),
                        held: Held { bytes: 4, inodes: 2 },
                        on_disk: true,
                    }],
                },
            )]
            .into(),
        }
    }

    fn usage(second: i64, cpu: u64) -> Usage {
        let cpu = Some(Cpu { total: cpu, ..Cpu::default() });
        let memory = Some(Memory { working_set: 300, ..Memory::default() });
        Usage { at: Timestamp::from_second(second).unwrap(), cpu, memory, processes: Some(1) }
    }

    fn sample(second: i64, cpu: u64) -> Sample {
        let container = ContainerSample {
            name: "c".into(),
            group: Some("/k/c".into()),
            usage: usage(second, cpu),
            layer: Some(Held { bytes: 5, inodes: 3 }),
            ..ContainerSample::default()
        };
        let pod = PodSample {
            uid: "u".into(),
            name: "p".into(),
            containers: vec![container],
            ..PodSample::default()
        };
        Sample { node: usage(second, cpu), pods: vec![pod] }
    }

    #[test]
    fn rates_are_the_difference_of_two_readings() {
        let told = summary(&sample(12, 5_000_000_000), &before(&sample(10, 1_000_000_000)), &beside());
        assert_eq!(told["node"]["cpu"]["usageNanoCores"], 2_000_000_000_u64);
        assert_eq!(told["pods"][0]["containers"][0]["cpu"]["usageNanoCores"], 2_000_000_000_u64);
        assert_eq!(told["node"]["memory"]["availableBytes"], 700);
        assert_eq!(told["node"]["fs"]["usedBytes"], 60);
    }

    #[test]
    fn a_pods_disk_is_its_layers_logs_and_volumes() {
        let told = summary(&sample(1, 1), &Before::new(), &beside());
        let pod = &told["pods"][0];
        let held = &pod["ephemeral-storage"];
        assert_eq!((&held["usedBytes"], &held["inodesUsed"]), (&12.into(), &6.into()));
        assert_eq!(
            (&pod["containers"][0]["logs"]["usedBytes"], &pod["volume"][0]["name"]),
            (&3.into(), &"v".into())
        );
        assert!(pod["containers"][0]["cpu"]["usageNanoCores"].is_null());
    }

    #[test]
    fn a_clock_that_stands_still_gives_no_rate() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(rate((at, 1), (at, 2)), None);
        assert_eq!(rate((at, 5), (Timestamp::from_second(1).unwrap(), 2)), None);
    }
}
