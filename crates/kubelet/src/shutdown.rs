//! Graceful shutdown of the node: before the machine goes down, pods end in the order of their priorities, each group within
//! the time that is set for it.
//!
//! - [`Shutdown`] is how it is asked for. Meanwhile the node is not Ready, and takes no pods.
//! - Which pods end when is decided by [`plan`], which is pure.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::configuration::Settings;
use crate::manager::Manager;
use crate::resources::CRITICAL;

/// What a pod is told that ends for this.
pub(crate) const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// Tells a kubelet that its machine goes down.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    done: CancellationToken,
}

impl Shutdown {
    /// Has the pods of a running kubelet ended, as its settings say: none, where they do not. Returns when they have, when
    /// their time is over, or when the kubelet itself has ended.
    pub async fn carry_out(&self) {
        self.asked.cancel();
        self.done.cancelled().await;
    }

    /// Tells whoever asks that it is over, once this is dropped: the kubelet has ended.
    pub(crate) fn over(&self) -> DropGuard {
        self.done.clone().drop_guard()
    }
}

/// The pods from a priority on, and the seconds that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    priority: i32,
    seconds: i64,
}

/// The groups in the order in which they end, the least important first; none where nothing is set.
pub(crate) fn groups(settings: &Settings) -> Vec<Group> {
    let mut groups: Vec<Group> = settings
        .shutdown_grace_period_by_pod_priority
        .iter()
        .map(|set| Group { priority: set.priority, seconds: set.shutdown_grace_period_seconds })
        .collect();
    if !settings.shutdown_grace_period.is_zero() {
        let critical = settings.shutdown_grace_period_critical_pods;
        let others = settings.shutdown_grace_period - critical;
        groups.push(Group { priority: 0, seconds: others.as_secs() });
        groups.push(Group { priority: CRITICAL, seconds: critical.as_secs() });
    }
    groups.sort_by_key(|group| group.priority);
    groups
}

/// The pods that end together, and the seconds that they have, in order. Pods that are less important than all groups go with
/// the first.
fn plan(groups: &[Group], pods: Vec<(String, i32)>) -> Vec<(i64, Vec<String>)> {
    let mut by_group = BTreeMap::<usize, Vec<String>>::new();
    for (uid, priority) in pods {
        let at = groups.iter().rposition(|group| group.priority <= priority).unwrap_or(0);
        by_group.entry(at).or_default().push(uid);
    }
    let seconds = |at: usize| groups.get(at).map_or(0, |group| group.seconds);
    by_group.into_iter().map(|(at, pods)| (seconds(at), pods)).collect()
}

/// Waits until it is asked for, and carries it out.
pub(crate) async fn attend(manager: &Manager, shutdown: &Shutdown) {
    shutdown.asked.cancelled().await;
    let _over = shutdown.over();
    let ctx = manager.context();
    let groups = groups(&ctx.config.settings);
    if groups.is_empty() {
        return;
    }
    tracing::info!("the machine goes down: the node's pods end");
    ctx.now.lock().shuts_down = true;
    ctx.hurry.notify_one();
    let message = "Shutdown manager detected shutdown event".to_owned();
    ctx.recorder.event(&ctx.node_reference(), "Normal", "NodeShutdown", message);
    for (seconds, pods) in plan(&groups, manager.priorities()) {
        let ended = pods.iter().map(|uid| manager.shut_down(uid, seconds));
        let within = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        if tokio::time::timeout(within, join_all(ended)).await.is_err() {
            tracing::warn!(
                seconds,
                "pods have not ended in the time that they had before the machine goes down"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<Group> {
        let head = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n";
        groups(&Settings::parse(format!("{head}{text}").as_bytes()).unwrap().0)
    }

    #[test]
    fn the_least_important_end_first() {
        assert!(set("").is_empty());
        let groups = set("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n");
        assert_eq!(groups, [Group { priority: 0, seconds: 20 }, Group { priority: CRITICAL, seconds: 10 }]);
        let pods = [("system", CRITICAL + 1000), ("low", -5), ("plain", 0), ("high", 1_000_000)];
        let pods = pods.map(|(uid, priority)| (uid.to_owned(), priority)).to_vec();
        let planned = plan(&groups, pods.clone());
        assert_eq!(planned[0], (20, vec!["low".into(), "plain".into(), "high".into()]));
        assert_eq!(planned[1], (10, vec!["system".into()]));
        let groups = set(
            "shutdownGracePeriodByPodPriority:\n- {priority: 1000, shutdownGracePeriodSeconds: 5}\n\
             - {priority: 0, shutdownGracePeriodSeconds: 7}\n- {priority: 5, shutdownGracePeriodSeconds: 9}\n",
        );
        let planned = plan(&groups, pods);
        assert_eq!(planned[0], (7, vec!["low".into(), "plain".into()]));
        assert_eq!(
            planned[1],
            (5, vec!["system".into(), "high".into()]),
            "a group without pods takes no time"
        );
    }
}
