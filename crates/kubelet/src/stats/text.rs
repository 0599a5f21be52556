//! Readings in Prometheus' text form: `/metrics/resource`, from which metrics servers read, and `/metrics/cadvisor`, whose
//! names dashboards ask for.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::group::{Cpu, Memory, Usage};
use super::machine::{Interface, Traffic};
use super::sample::{ContainerSample, PodSample, Sample};
use crate::node::machine::Machine;

/// Writes one family after the other: comments first, then its samples.
struct Page {
    text: String,
    /// `[STABLE]` and the like, before the help.
    stability: &'static str,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {}{help}\n# TYPE {name} {kind}", self.stability);
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64, at: Timestamp) {
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "{name}{braces} {value} {}", at.as_millisecond());
    }
}

/// A value inside a label, escaped as the form wants.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A figure of a usage: name behind the owner's, kind, help behind "of the ...", value.
type Figure = (&'static str, &'static str, &'static str, fn(&Usage) -> Option<f64>);

const RESOURCES: [Figure; 3] = [
    (
        "cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the {} in core-seconds",
        |usage| usage.cpu.map(|cpu| seconds(cpu.total)),
    ),
    ("memory_working_set_bytes", "gauge", "Current working set of the {} in bytes", |usage| {
        usage.memory.map(|memory| memory.working_set as f64)
    }),
    (
        "swap_usage_bytes",
        "gauge",
        "Current amount of the {} swap usage in bytes. Reported only on non-windows systems",
        |usage| usage.memory.map(|memory| memory.swap as f64),
    ),
];

/// `/metrics/resource`.
pub(crate) fn resource(sample: &Sample) -> String {
    let mut page = Page { text: String::new(), stability: "[STABLE] " };
    page.family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    for (labels, container) in containers(sample) {
        let start = container.created.as_millisecond() as f64 / 1e3;
        page.sample("container_start_time_seconds", &labels, start, container.usage.at);
    }
    let node = vec![(String::new(), &sample.node)];
    let pods = sample.pods.iter().map(|pod| (pod_labels(pod), &pod.usage)).collect();
    let containers = containers(sample).map(|(labels, container)| (labels, &container.usage)).collect();
    let owners: [(&str, Vec<(String, &Usage)>); 3] =
        [("container", containers), ("node", node), ("pod", pods)];
    for (owner, usages) in owners {
        for (name, kind, help, figure) in RESOURCES {
            let name = format!("{owner}_{name}");
            page.family(&name, kind, &help.replace("{}", owner));
            for (labels, usage) in &usages {
                figure(usage).into_iter().for_each(|value| page.sample(&name, labels, value, usage.at));
            }
        }
    }
    page.family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    page.text.push_str("resource_scrape_error 0\n");
    page.text
}

fn pod_labels(pod: &PodSample) -> String {
    format!("namespace=\"{}\",pod=\"{}\"", escaped(&pod.namespace), escaped(&pod.name))
}

fn containers(sample: &Sample) -> impl Iterator<Item = (String, &ContainerSample)> {
    sample.pods.iter().flat_map(|pod| {
        let of_pod = pod_labels(pod);
        pod.containers.iter().map(move |c| (format!("container=\"{}\",{of_pod}", escaped(&c.name)), c))
    })
}

fn cpu(usage: &Usage, figure: fn(&Cpu) -> u64) -> Option<f64> {
    usage.cpu.as_ref().map(|cpu| figure(cpu) as f64)
}

fn memory(usage: &Usage, figure: fn(&Memory) -> u64) -> Option<f64> {
    usage.memory.as_ref().map(|memory| figure(memory) as f64)
}

/// cAdvisor's figures of a control group: name, kind, help, labels of its own, value.
type Cadvisor = (&'static str, &'static str, &'static str, &'static str, fn(&Usage) -> Option<f64>);

const GROUP: [Cadvisor; 17] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        "cpu=\"total\",",
        |u| cpu(u, |cpu| cpu.total).map(|nanos| nanos / 1e9),
    ),
    (
        "container_cpu_user_seconds_total",
        "counter",
        "Cumulative user cpu time consumed in seconds.",
        "",
        |u| cpu(u, |cpu| cpu.user).map(|nanos| nanos / 1e9),
    ),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "Cumulative system cpu time consumed in seconds.",
        "",
        |u| cpu(u, |cpu| cpu.system).map(|nanos| nanos / 1e9),
    ),
    (
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
        "",
        |u| cpu(u, |cpu| cpu.throttle.periods),
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        "",
        |u| cpu(u, |cpu| cpu.throttle.throttled),
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        "",
        |u| cpu(u, |cpu| cpu.throttle.time).map(|nanos| nanos / 1e9),
    ),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        "",
        |u| memory(u, |m| m.usage),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", "", |u| {
        memory(u, |m| m.working_set)
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", "", |u| memory(u, |m| m.rss)),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", "", |u| {
        memory(u, |m| m.cache)
    }),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", "", |u| {
        memory(u, |m| m.mapped)
    }),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", "", |u| memory(u, |m| m.swap)),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", "", |u| {
        memory(u, |m| m.peak)
    }),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", "", |u| {
        memory(u, |m| m.failures)
    }),
    (
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
        "failure_type=\"pgmajfault\",scope=\"container\",",
        |u| memory(u, |m| m.major_faults),
    ),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", "", |u| {
        u.memory.map(|memory| memory.limit.unwrap_or_default() as f64)
    }),
    ("container_processes", "gauge", "Number of processes running inside the container.", "", |u| {
        u.processes.map(|count| count as f64)
    }),
];

/// A direction's figure: the last part of its name, and its value.
type Direction = (&'static str, fn(&Traffic) -> u64);

const NETWORK: [Direction; 4] = [
    ("bytes_total", |traffic| traffic.bytes),
    ("packets_total", |traffic| traffic.packets),
    ("errors_total", |traffic| traffic.errors),
    ("packets_dropped_total", |traffic| traffic.dropped),
];

/// What a direction is called, and where it stands.
type Way = (&'static str, fn(&Interface) -> &Traffic);

const WAYS: [Way; 2] =
    [("receive", |interface| &interface.received), ("transmit", |interface| &interface.sent)];

/// A series' owner in cAdvisor's labels.
struct Owner<'a> {
    labels: String,
    usage: &'a Usage,
    container: Option<&'a ContainerSample>,
    interfaces: &'a [Interface],
}

impl<'a> Owner<'a> {
    fn new(
        id: &str,
        pod: Option<&PodSample>,
        container: Option<&'a ContainerSample>,
        usage: &'a Usage,
    ) -> Self {
        let (namespace, pod) = pod.map_or(("", ""), |pod| (pod.namespace.as_str(), pod.name.as_str()));
        let (name, image, cri) =
            container.map_or(("", "", ""), |c| (c.name.as_str(), c.image.as_str(), c.id.as_str()));
        let labels = format!(
            "container=\"{}\",id=\"{}\",image=\"{}\",name=\"{}\",namespace=\"{}\",pod=\"{}\"",
            escaped(name),
            escaped(id),
            escaped(image),
            escaped(cri),
            escaped(namespace),
            escaped(pod)
        );
        Self { labels, usage, container, interfaces: &[] }
    }
}

fn owners<'a>(sample: &'a Sample, node: &'a [Interface]) -> Vec<Owner<'a>> {
    let id = |group: &Option<std::path::PathBuf>| {
        group.as_ref().map(|g| g.display().to_string()).unwrap_or_default()
    };
    let mut all = vec![Owner { interfaces: node, ..Owner::new("/", None, None, &sample.node) }];
    for pod in &sample.pods {
        let own = Owner::new(&id(&pod.group), Some(pod), None, &pod.usage);
        all.push(Owner { interfaces: &pod.interfaces, ..own });
        all.extend(pod.containers.iter().map(|c| Owner::new(&id(&c.group), Some(pod), Some(c), &c.usage)));
    }
    all
}

/// `/metrics/cadvisor`. `node` are the machine's own interfaces.
pub(crate) fn cadvisor(sample: &Sample, node: &[Interface], machine: &Machine) -> String {
    let mut page = Page { text: String::new(), stability: "" };
    let owners = owners(sample, node);
    let mut last = "";
    for (name, kind, help, own, figure) in GROUP {
        if name != last {
            page.family(name, kind, help);
        }
        last = name;
        for owner in &owners {
            let Some(value) = figure(owner.usage) else { continue };
            page.sample(name, &format!("{own}{}", owner.labels), value, owner.usage.at);
        }
    }
    layers(&mut page, &owners);
    traffic(&mut page, &owners);
    page.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    page.sample("machine_cpu_cores", "", machine.cpus as f64, sample.node.at);
    page.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    page.sample("machine_memory_bytes", "", machine.memory as f64, sample.node.at);
    page.text
}

/// What only containers have: their start, and their layer of the image.
fn layers(page: &mut Page, owners: &[Owner<'_>]) {
    let containers = || owners.iter().filter_map(|owner| Some((owner, owner.container?)));
    page.family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    );
    for (owner, container) in containers() {
        let start = container.created.as_second() as f64;
        page.sample("container_start_time_seconds", &owner.labels, start, owner.usage.at);
    }
    page.family(
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
    );
    for (owner, container) in containers() {
        let Some(bytes) = container.layer.map(|held| held.bytes) else { continue };
        let labels = format!("{},device=\"\"", owner.labels);
        page.sample("container_fs_usage_bytes", &labels, bytes as f64, owner.usage.at);
    }
}

fn traffic(page: &mut Page, owners: &[Owner<'_>]) {
    for (way, side) in WAYS {
        for (figure, value) in NETWORK {
            let name = format!("container_network_{way}_{figure}");
            page.family(&name, "counter", "Cumulative count over the network interface.");
            for owner in owners {
                for interface in owner.interfaces {
                    let labels = format!("{},interface=\"{}\"", owner.labels, escaped(&interface.name));
                    page.sample(&name, &labels, value(side(interface)) as f64, owner.usage.at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::usage::Held;

    fn sample() -> Sample {
        let usage = Usage {
            at: Timestamp::from_second(10).unwrap(),
            cpu: Some(Cpu { total: 1_500_000_000, ..Cpu::default() }),
            memory: Some(Memory { working_set: 4096, ..Memory::default() }),
            processes: Some(2),
        };
        let container = ContainerSample {
            name: "c".into(),
            id: "i".into(),
            layer: Some(Held { bytes: 7, inodes: 1 }),
            usage: usage.clone(),
            ..ContainerSample::default()
        };
        let eth = Interface {
            name: "eth0".into(),
            received: Traffic { bytes: 5, ..Traffic::default() },
            ..Interface::default()
        };
        let pod = PodSample {
            namespace: "n".into(),
            name: "p".into(),
            usage: usage.clone(),
            interfaces: vec![eth],
            containers: vec![container],
            ..PodSample::default()
        };
        Sample { node: usage, pods: vec![pod] }
    }

    #[test]
    fn resources_are_told_as_metrics_servers_read_them() {
        let text = resource(&sample());
        for line in [
            "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds",
            "# TYPE node_cpu_usage_seconds_total counter",
            "node_cpu_usage_seconds_total 1.5 10000",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 4096 10000",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 1.5 10000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn dashboards_find_their_names() {
        let machine = Machine { cpus: 2, ..Machine::default() };
        let text = cadvisor(&sample(), &[], &machine);
        let owner = "container=\"c\",id=\"\",image=\"\",name=\"i\",namespace=\"n\",pod=\"p\"";
        let of_pod = "container=\"\",id=\"\",image=\"\",name=\"\",namespace=\"n\",pod=\"p\"";
        for line in [
            format!("container_cpu_usage_seconds_total{{cpu=\"total\",{owner}}} 1.5 10000"),
            format!("container_memory_working_set_bytes{{{of_pod}}} 4096 10000"),
            format!("container_fs_usage_bytes{{{owner},device=\"\"}} 7 10000"),
            format!("container_network_receive_bytes_total{{{of_pod},interface=\"eth0\"}} 5 10000"),
            "machine_cpu_cores 2 10000".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn values_cannot_break_out_of_their_labels() {
        assert_eq!(escaped("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
