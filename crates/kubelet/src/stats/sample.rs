//! One reading of everything that runs here. Taken when somebody asks, never by a clock.
//!
//! Names come from the runtime's lists, amounts from the kernel's control groups: cheaper than the runtime's own
//! statistics, and the same for every runtime. Where a container has no group that can be found (one in a virtual
//! machine), the runtime's statistics stand in.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tiphys_runtime::{Container, ContainerState, Filter, Sandbox, Stats};

use super::group::{self, Cpu, Memory, Usage};
use super::machine::{self, Interface};
use crate::cgroups::{Driver, Layout};
use crate::context::Context;
use crate::pod::Qos;
use crate::volumes::usage::Held;
use crate::{container, sandbox};

/// All that runs, and the machine beneath.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) node: Usage,
    pub(crate) pods: Vec<PodSample>,
}

/// A pod that has a sandbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSample {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) sandbox: String,
    pub(crate) created: Timestamp,
    /// Below the root of its hierarchy.
    pub(crate) group: Option<PathBuf>,
    pub(crate) usage: Usage,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) containers: Vec<ContainerSample>,
}

/// A container that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerSample {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) created: Timestamp,
    pub(crate) group: Option<PathBuf>,
    pub(crate) usage: Usage,
    /// What its own layer of the image holds; known only where it was asked for.
    pub(crate) layer: Option<Held>,
}

/// How much is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Processors and memory.
    Resources,
    /// Network and layers of images, too.
    All,
}

/// Takes a reading.
pub(crate) async fn take(ctx: &Context, detail: Detail) -> tiphys_runtime::Result<Sample> {
    let all = Filter::default();
    let (sandboxes, containers) =
        tokio::try_join!(ctx.runtime.list_sandboxes(&all), ctx.runtime.list_containers(&all))?;
    let sandboxes = sandboxes.into_iter().filter(|s| s.ready && ctx.owns(&s.id)).collect();
    let containers =
        containers.into_iter().filter(|c| c.state == ContainerState::Running && ctx.owns(&c.id)).collect();
    let pods = assemble(sandboxes, containers);
    let groups = Groups {
        layout: ctx.cgroups.clone(),
        driver: ctx.config.settings.cgroup_driver,
        root: ctx.config.cgroup_root.clone(),
    };
    let read = move || groups.sample(pods, detail);
    let mut sample = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let unknown = |c: &ContainerSample| c.usage.cpu.is_none();
    if detail == Detail::All || sample.pods.iter().flat_map(|pod| &pod.containers).any(unknown) {
        complete(&mut sample, ctx.runtime.list_stats().await?);
    }
    Ok(sample)
}

/// Puts containers to their pods. Of a pod with several sandboxes the newest counts.
fn assemble(sandboxes: Vec<Sandbox>, containers: Vec<Container>) -> Vec<PodSample> {
    let mut pods: BTreeMap<String, PodSample> = BTreeMap::new();
    for sandbox in sandboxes {
        let created = crate::state::time(sandbox.created_at);
        if pods.get(&sandbox.uid).is_some_and(|known| known.created > created) {
            continue;
        }
        let Sandbox { id, uid, namespace, name, .. } = sandbox;
        let pod =
            PodSample { uid: uid.clone(), namespace, name, sandbox: id, created, ..PodSample::default() };
        pods.insert(uid, pod);
    }
    for one in containers {
        let uid = one.labels.get(sandbox::POD_UID).cloned().unwrap_or_default();
        let Some(pod) = pods.get_mut(&uid).filter(|pod| pod.sandbox == one.sandbox) else { continue };
        pod.containers.push(ContainerSample {
            name: one.labels.get(container::NAME).cloned().unwrap_or_default(),
            created: crate::state::time(one.created_at),
            id: one.id,
            image: one.image,
            ..ContainerSample::default()
        });
    }
    let mut pods: Vec<PodSample> = pods.into_values().collect();
    pods.iter_mut().for_each(|pod| pod.containers.sort_by(|a, b| a.name.cmp(&b.name)));
    pods
}

struct Groups {
    layout: Arc<Layout>,
    driver: Driver,
    root: String,
}

impl Groups {
    fn sample(&self, mut pods: Vec<PodSample>, detail: Detail) -> Sample {
        for pod in &mut pods {
            pod.group = self.of_pod(&pod.uid);
            let Some(group) = pod.group.clone() else { continue };
            pod.usage = group::read(&self.layout, &group);
            for container in &mut pod.containers {
                container.group = group::of_container(&self.layout, &group, &container.id);
                if let Some(group) = &container.group {
                    container.usage = group::read(&self.layout, group);
                }
            }
            if detail == Detail::All {
                pod.interfaces = self.interfaces(pod, &group);
            }
        }
        Sample { node: machine::usage(), pods }
    }

    fn of_pod(&self, uid: &str) -> Option<PathBuf> {
        let classes = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort];
        let paths = classes.into_iter().map(|qos| self.driver.path(&self.root, qos, uid));
        paths.into_iter().find(|path| self.layout.group("memory", path).is_dir())
    }

    fn interfaces(&self, pod: &PodSample, group: &std::path::Path) -> Vec<Interface> {
        let sandbox = group::of_container(&self.layout, group, &pod.sandbox);
        let process = sandbox.and_then(|group| group::process(&self.layout, &group));
        process.map(machine::interfaces).unwrap_or_default()
    }
}

/// Adds what only the runtime knows.
fn complete(sample: &mut Sample, stats: Vec<Stats>) {
    let stats: HashMap<String, Stats> = stats.into_iter().map(|one| (one.id.clone(), one)).collect();
    for pod in &mut sample.pods {
        for container in &mut pod.containers {
            let Some(told) = stats.get(&container.id) else { continue };
            container.layer = Some(Held { bytes: told.writable_bytes, inodes: told.writable_inodes });
            if container.usage.cpu.is_none() {
                container.usage = told_by_runtime(told);
            }
        }
        if pod.usage.cpu.is_none() {
            pod.usage = sum(&pod.containers);
        }
    }
}

fn told_by_runtime(told: &Stats) -> Usage {
    let working_set = told.working_set_bytes;
    let memory = Memory { usage: working_set, working_set, rss: told.rss_bytes, ..Memory::default() };
    let cpu = Cpu { total: told.cpu_nanos, ..Cpu::default() };
    Usage { at: crate::state::time(told.timestamp), cpu: Some(cpu), memory: Some(memory), processes: None }
}

fn sum(containers: &[ContainerSample]) -> Usage {
    let mut all = Usage { at: Timestamp::now(), ..Usage::default() };
    let (cpu, memory) = (all.cpu.get_or_insert_default(), all.memory.get_or_insert_default());
    for usage in containers.iter().map(|container| &container.usage) {
        cpu.total += usage.cpu.unwrap_or_default().total;
        let used = usage.memory.unwrap_or_default();
        memory.usage += used.usage;
        memory.working_set += used.working_set;
        memory.rss += used.rss;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_come_to_the_newest_sandbox_of_their_pod() {
        let sandbox = |id: &str, created_at| Sandbox {
            id: id.into(),
            uid: "u".into(),
            created_at,
            ..Sandbox::default()
        };
        let container = |id: &str, of: &str| Container {
            id: id.into(),
            sandbox: of.into(),
            labels: [(sandbox::POD_UID.to_owned(), "u".to_owned())].into(),
            ..Container::default()
        };
        let pods = assemble(
            vec![sandbox("new", 2), sandbox("old", 1)],
            vec![container("a", "old"), container("b", "new"), container("c", "else")],
        );
        let ids: Vec<&str> = pods[0].containers.iter().map(|c| c.id.as_str()).collect();
        assert_eq!((pods.len(), ids), (1, vec!["b"]));
    }

    #[test]
    fn a_runtimes_own_figures_stand_in_where_there_is_no_group() {
        let known = Usage { cpu: Some(Cpu { total: 1, ..Cpu::default() }), ..Usage::default() };
        let one = |id: &str, usage| ContainerSample { id: id.into(), usage, ..ContainerSample::default() };
        let containers = vec![one("a", known), one("b", Usage::default())];
        let mut sample =
            Sample { pods: vec![PodSample { containers, ..PodSample::default() }], ..Sample::default() };
        let told = |id: &str| Stats {
            id: id.into(),
            cpu_nanos: 40,
            writable_bytes: 9,
            writable_inodes: 2,
            ..Stats::default()
        };
        complete(&mut sample, vec![told("a"), told("b")]);
        let pod = &sample.pods[0];
        assert_eq!(pod.containers[0].usage.cpu.unwrap().total, 1);
        assert_eq!(
            (pod.containers[1].usage.cpu.unwrap().total, pod.containers[1].layer),
            (40, Some(Held { bytes: 9, inodes: 2 }))
        );
        assert_eq!(pod.usage.cpu.unwrap().total, 41);
    }
}
