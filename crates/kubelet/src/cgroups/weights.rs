//! How much of the processors pods get beside one another, when all want them: by what they asked for.
//!
//! A group's weight counts among its siblings: a pod's is its request, that of all Burstable pods together the sum of theirs,
//! and BestEffort pods share the least there is. Runtimes make missing groups with the kernel's default weight, which
//! would give a pod that asked for nothing as much as one that asked for a processor. Under systemd the groups are
//! systemd's, and weigh what it gives them.
//!
//! A pod's bounds are set here, too: how many processes it may have, and what it may use as a whole where it says so itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::{Driver, Layout};
use crate::pod::{self, Qos};
use crate::resources;

/// The groups' weights.
pub(crate) struct Weights {
    layout: Arc<Layout>,
    driver: Driver,
    root: String,
    /// The most processes of a pod.
    pids: Option<i64>,
    /// The shares that Burstable pods asked for, by uid.
    burstable: Mutex<BTreeMap<String, i64>>,
}

impl Weights {
    pub(crate) fn new(layout: Arc<Layout>, driver: Driver, root: &str, pids: Option<i64>) -> Self {
        Self { layout, driver, root: root.to_owned(), pids, burstable: Mutex::default() }
    }

    /// Makes a pod's group, and those above it, before its sandbox is.
    pub(crate) fn prepare(&self, pod: &Pod) -> io::Result<()> {
        if self.driver == Driver::Systemd {
            return Ok(());
        }
        let (qos, uid) = (pod::qos(pod), pod::uid(pod));
        let class = self.driver.class(&self.root, qos);
        let group = self.driver.path(&self.root, qos, uid);
        let asked = resources::of_pod(pod).cpu_shares;
        for path in [Path::new(&self.root), &class, &group] {
            self.make(path)?;
        }
        match qos {
            Qos::Guaranteed => {}
            Qos::Burstable => self.weigh(&class, self.noted(uid, asked))?,
            Qos::BestEffort => self.weigh(&class, LEAST)?,
        }
        self.weigh(&group, asked)?;
        self.bound(&group, pod)
    }

    /// Sets a pod's bounds once its sandbox is there, for a group that is made with that: by systemd.
    pub(crate) fn bound_made(&self, pod: &Pod) -> io::Result<()> {
        self.bound(&self.driver.path(&self.root, pod::qos(pod), pod::uid(pod)), pod)
    }

    /// Sets what a pod may use at most, as far as that is not its containers' own: processes, and what the pod says itself.
    fn bound(&self, group: &Path, pod: &Pod) -> io::Result<()> {
        let write = |controller: &str, file: &str, text: String| {
            fs::write(self.layout.group(controller, group).join(file), text)
        };
        if let Some(most) = self.pids.filter(|most| *most > 0) {
            write("pids", "pids.max", most.to_string())?;
        }
        let all = resources::of_pod(pod);
        let (quota, period) = (all.cpu_quota.to_string(), all.cpu_period.to_string());
        if pod::own_limit(pod, "cpu").is_some_and(|limit| limit > 0) {
            match self.layout.unified {
                true => write("", "cpu.max", format!("{quota} {period}"))?,
                false => {
                    write("cpu", "cpu.cfs_period_us", period)?;
                    write("cpu", "cpu.cfs_quota_us", quota)?;
                }
            }
        }
        if pod::own_limit(pod, "memory").is_some_and(|limit| limit > 0) {
            let file = if self.layout.unified { "memory.max" } else { "memory.limit_in_bytes" };
            write("memory", file, all.memory_limit.to_string())?;
        }
        Ok(())
    }

    /// Notes the part of a pod that runs already.
    pub(crate) fn adopt(&self, pod: &Pod) {
        if pod::qos(pod) == Qos::Burstable {
            self.noted(pod::uid(pod), resources::of_pod(pod).cpu_shares);
        }
    }

    /// Takes a pod's part from its class.
    pub(crate) fn forget(&self, uid: &str) -> io::Result<()> {
        let left = {
            let mut all = self.burstable.lock();
            if all.remove(uid).is_none() {
                return Ok(());
            }
            all.values().sum::<i64>()
        };
        self.weigh(&self.driver.class(&self.root, Qos::Burstable), left)
    }

    /// Notes a pod's part; that of its class.
    fn noted(&self, uid: &str, asked: i64) -> i64 {
        let mut all = self.burstable.lock();
        all.insert(uid.to_owned(), asked);
        all.values().sum()
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        let controllers: &[&str] = if self.layout.unified { &[""] } else { &["cpu", "memory", "pids"] };
        for controller in controllers {
            fs::create_dir_all(self.layout.group(controller, path))?;
        }
        if self.layout.unified
            && let Some(above) = self.layout.group("", path).parent()
        {
            // What a group may weigh, the one above it must allow. A controller that the kernel lacks is none to weigh by.
            for controller in ["+cpu", "+memory", "+pids"] {
                let _ = fs::write(above.join("cgroup.subtree_control"), controller);
            }
        }
        Ok(())
    }

    fn weigh(&self, path: &Path, shares: i64) -> io::Result<()> {
        let shares = shares.clamp(LEAST, MOST);
        let group = self.layout.group("cpu", path);
        match self.layout.unified {
            true => fs::write(group.join("cpu.weight"), weight(shares).to_string()),
            false => fs::write(group.join("cpu.shares"), shares.to_string()),
        }
    }
}

/// Shares of version 1.
const LEAST: i64 = 2;
const MOST: i64 = 262_144;

/// Shares of version 1 as a weight of version 2, as runtimes convert them.
fn weight(shares: i64) -> i64 {
    1 + (shares - LEAST) * 9_999 / (MOST - LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, cpu: Option<&str>) -> Pod {
        let requests = cpu.map_or(serde_json::json!({}), |cpu| serde_json::json!({"requests": {"cpu": cpu}}));
        let container = serde_json::json!({"name": "c", "resources": requests});
        serde_json::from_value(
            serde_json::json!({"metadata": {"uid": uid}, "spec": {"containers": [container]}}),
        )
        .unwrap()
    }

    fn weights(dir: &Path, unified: bool) -> Weights {
        let layout = Arc::new(Layout { mount: dir.into(), unified });
        Weights::new(layout, Driver::Cgroupfs, "/k", Some(100))
    }

    #[test]
    fn classes_weigh_what_their_pods_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let weights = weights(dir.path(), false);
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        weights.prepare(&pod("a", Some("500m"))).unwrap();
        weights.prepare(&pod("b", Some("250m"))).unwrap();
        weights.prepare(&pod("c", None)).unwrap();
        assert_eq!(
            (read("cpu/k/burstable/poda/cpu.shares"), read("cpu/k/burstable/cpu.shares")),
            ("512".into(), "768".into())
        );
        assert_eq!(
            (read("cpu/k/besteffort/cpu.shares"), read("pids/k/besteffort/podc/pids.max")),
            ("2".into(), "100".into())
        );
        weights.forget("a").unwrap();
        assert_eq!(read("cpu/k/burstable/cpu.shares"), "256");
        weights.prepare(&pod("b", Some("250m"))).unwrap();
        assert_eq!(read("cpu/k/burstable/cpu.shares"), "256", "a second sandbox is no second pod");
        weights.adopt(&pod("d", Some("1")));
        weights.prepare(&pod("b", Some("250m"))).unwrap();
        assert_eq!(read("cpu/k/burstable/cpu.shares"), "1280");
    }

    #[test]
    fn a_pod_has_the_bounds_that_it_names_itself() {
        let mut pod = pod("a", Some("1"));
        let own = serde_json::json!({"limits": {"cpu": "1500m", "memory": "64Mi"}});
        pod.spec.as_mut().unwrap().resources = serde_json::from_value(own).unwrap();
        for (unified, driver) in
            [(false, Driver::Cgroupfs), (true, Driver::Cgroupfs), (true, Driver::Systemd)]
        {
            let dir = tempfile::tempdir().unwrap();
            let weights = Weights { driver, ..weights(dir.path(), unified) };
            let group = driver.path("/k", pod::qos(&pod), "a");
            if driver == Driver::Systemd {
                // As the runtime has it made with the sandbox.
                fs::create_dir_all(weights.layout.group("", &group)).unwrap();
            }
            weights.prepare(&pod).unwrap();
            weights.bound_made(&pod).unwrap();
            let read = |controller: &str, file: &str| {
                fs::read_to_string(weights.layout.group(controller, &group).join(file)).unwrap()
            };
            let (cpu, memory) = match unified {
                true => (read("", "cpu.max"), read("", "memory.max")),
                false => (read("cpu", "cpu.cfs_quota_us"), read("memory", "memory.limit_in_bytes")),
            };
            assert!(cpu.starts_with("150000"), "{cpu}");
            assert_eq!((memory, read("pids", "pids.max")), ((64 << 20).to_string(), "100".into()));
        }
    }

    #[test]
    fn version_two_weighs_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        weights(dir.path(), true).prepare(&pod("a", Some("1"))).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(
            (read("k/burstable/poda/cpu.weight"), read("k/cgroup.subtree_control")),
            ("39".into(), "+pids".into())
        );
        assert_eq!((weight(LEAST), weight(MOST)), (1, 10_000));
    }
}
