//! Probes by outcome, for `/metrics/probes`. A pod's counts go with the pod.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::text::escaped;
use crate::pod;

/// Uid of the pod, and its labels with those of the container and the kind of probe.
type Key = (String, String);

/// Probes of all pods: how many succeeded and failed.
#[derive(Default)]
pub(crate) struct Probes(Mutex<BTreeMap<Key, [u64; 2]>>);

impl Probes {
    /// Counts one. `kind` is as `Liveness`.
    pub(crate) fn count(&self, pod: &Pod, container: &str, kind: &str, succeeded: bool) {
        let uid = pod::uid(pod);
        let labels = format!(
            "container=\"{}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{kind}\"",
            escaped(container),
            escaped(pod::namespace(pod)),
            escaped(pod::name(pod)),
            escaped(uid)
        );
        let mut all = self.0.lock();
        let [good, bad] = all.entry((uid.to_owned(), labels)).or_default();
        *(if succeeded { good } else { bad }) += 1;
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().retain(|(of, _), _| of != uid);
    }

    /// `/metrics/probes`.
    pub(crate) fn render(&self) -> String {
        let mut text = "# HELP prober_probe_total [BETA] Cumulative number of a liveness, readiness or startup probe for \
                        a container by result.\n# TYPE prober_probe_total counter\n"
            .to_owned();
        for ((_, labels), [good, bad]) in self.0.lock().iter() {
            for (result, count) in [("failed", bad), ("successful", good)] {
                if *count > 0 {
                    let _ = writeln!(text, "prober_probe_total{{{labels},result=\"{result}\"}} {count}");
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_counts_go_with_it() {
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}}),
        )
        .unwrap();
        let probes = Probes::default();
        probes.count(&pod, "c", "Liveness", true);
        probes.count(&pod, "c", "Liveness", true);
        probes.count(&pod, "c", "Liveness", false);
        let labels = "container=\"c\",namespace=\"n\",pod=\"p\",pod_uid=\"u\",probe_type=\"Liveness\"";
        let text = probes.render();
        assert!(
            text.contains(&format!("prober_probe_total{{{labels},result=\"successful\"}} 2\n")),
            "{text}"
        );
        assert!(text.contains("result=\"failed\"} 1\n"));
        probes.forget("u");
        assert_eq!(probes.render().lines().count(), 2);
    }
}
