//! Events in, attempts out: the picture and the queue under one lock, and the sign that there is something to do.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tiphys_api::Object;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::decide::decide;
use crate::node::Facts;
use crate::pod::Pod;
use crate::queue::Queue;
use crate::volumes::Needs;

/// What became of one pod's turn.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// A node was chosen and counts the pod in already.
    Chosen {
        /// The pod.
        pod: Pod,
        /// The node.
        node: Arc<Facts>,
    },
    /// No node takes it now.
    Refused {
        /// The pod.
        pod: Pod,
        /// Why.
        message: String,
        /// Whether that differs from what was said last.
        news: bool,
    },
}

/// The scheduler's memory.
#[derive(Debug)]
pub(crate) struct State {
    scheduler_name: String,
    inner: Mutex<Inner>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    cache: Cache,
    queue: Queue,
    waiting: HashMap<String, Waiting>,
    decisions: usize,
}

#[derive(Debug)]
struct Waiting {
    pod: Pod,
    told: String,
}

impl State {
    pub(crate) fn new(scheduler_name: String) -> Self {
        Self { scheduler_name, inner: Mutex::default(), work: Notify::new() }
    }

    /// A node came, changed or went.
    pub(crate) fn node_changed(&self, old: Option<&Object>, new: Option<&Object>) {
        let read = |object: &Object| {
            Facts::read(object).inspect_err(|error| tracing::warn!(%error, "unreadable node")).ok()
        };
        match (new.map(read), old) {
            (Some(None), _) | (None, None) => return,
            (None, Some(old)) => return self.inner.lock().cache.remove_node(&old.meta().name),
            // A heartbeat changes nothing that pods wait for.
            (Some(Some(facts)), old) if old.and_then(read).as_ref() == Some(&facts) => return,
            (Some(Some(facts)), _) => {
                let mut inner = self.inner.lock();
                inner.cache.set_node(facts);
                inner.queue.cluster_changed();
            }
        }
        self.work.notify_one();
    }

    /// A pod came, changed or went.
    pub(crate) fn pod_changed(&self, old: Option<&Object>, new: Option<&Object>) {
        match (old, new) {
            (_, Some(new)) => match Pod::read(new) {
                Ok(pod) => self.set_pod(pod),
                Err(error) => tracing::warn!(%error, pod = new.meta().key(), "unreadable pod"),
            },
            (Some(old), None) => {
                let mut inner = self.inner.lock();
                inner.forget(&old.meta().key());
                inner.cache.remove_pod(&old.meta().uid);
                inner.queue.cluster_changed();
            }
            (None, None) => {}
        }
        self.work.notify_one();
    }

    fn set_pod(&self, pod: Pod) {
        let mut inner = self.inner.lock();
        let key = pod.key();
        if !pod.node.is_empty() || pod.ended {
            inner.forget(&key);
            if pod.ended {
                inner.queue.cluster_changed();
            }
            return inner.cache.set_pod(pod);
        }
        if pod.deleted || pod.gated || pod.scheduler.as_ref() != self.scheduler_name {
            return inner.forget(&key);
        }
        match inner.waiting.get_mut(&key) {
            // Its status changed, most likely by our own words: no reason to try again.
            Some(waiting) if waiting.pod == pod => return,
            Some(waiting) => waiting.pod = pod.clone(),
            None => {
                drop(inner.waiting.insert(key.clone(), Waiting { pod: pod.clone(), told: String::new() }))
            }
        }
        inner.queue.add(&key, pod.priority);
    }

    /// The next pod's turn, if one's turn it is. `needs` tells what a pod's volumes ask for, or why they cannot be had.
    pub(crate) fn next(
        &self,
        now: Instant,
        needs: impl Fn(&Pod) -> Result<Needs, String>,
    ) -> Option<Attempt> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        loop {
            let (key, mark) = inner.queue.pop(now)?;
            let Some(waiting) = inner.waiting.get_mut(&key) else {
                inner.queue.remove(&key);
                continue;
            };
            let mut pod = waiting.pod.clone();
            inner.decisions = inner.decisions.wrapping_add(1);
            let nodes = inner.cache.nodes().len();
            let everywhere = |why| format!("0/{nodes} nodes are available: {why}.");
            let needs = needs(&pod).map_err(everywhere);
            let decided = needs.and_then(|needs| {
                pod.wishes.get_or_insert_default().volumes = Some(needs);
                decide(&pod, inner.cache.nodes(), inner.decisions).map_err(|refusal| refusal.to_string())
            });
            return Some(match decided {
                Ok(node) => {
                    let node = node.facts.clone();
                    inner.cache.assume(&pod, &node.name);
                    Attempt::Chosen { pod, node }
                }
                Err(message) => {
                    let news = waiting.told != message;
                    waiting.told.clone_from(&message);
                    inner.queue.unschedulable(&key, mark, now);
                    Attempt::Refused { pod, message, news }
                }
            });
        }
    }

    /// Waits until there may be something to do: an event, or the end of a pod's pause.
    pub(crate) async fn wait(&self) {
        let due = self.inner.lock().queue.next_due();
        match due {
            Some(due) => {
                tokio::select! {
                    () = self.work.notified() => {}
                    () = tokio::time::sleep_until(due) => {}
                }
            }
            None => self.work.notified().await,
        }
    }

    /// Something changed that pods may wait for, other than nodes and pods.
    pub(crate) fn cluster_changed(&self) {
        self.inner.lock().queue.cluster_changed();
        self.work.notify_one();
    }

    /// The API server has taken the binding.
    pub(crate) fn bound(&self, key: &str) {
        self.inner.lock().forget(key);
    }

    /// The API server has refused it.
    pub(crate) fn not_bound(&self, pod: &Pod, now: Instant) {
        let mut inner = self.inner.lock();
        inner.cache.remove_pod(&pod.uid);
        inner.queue.retry(&pod.key(), now);
        inner.queue.cluster_changed();
        drop(inner);
        self.work.notify_one();
    }
}

impl Inner {
    fn forget(&mut self, key: &str) {
        self.queue.remove(key);
        self.waiting.remove(key);
    }
}
