//! A pod's place on the node: taken when it is admitted, changed when its containers ask for other sizes, given back when
//! nothing of it runs any more.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde_json::json;

use super::Actor;
use crate::state::{Pending, Verdict};
use crate::{admit, allocation, plan, pod};

impl Actor {
    /// Takes the place of a pod that was admitted before: what it runs is not asked again whether it may.
    pub(super) fn keep_place(&mut self) {
        self.admitted = self.state.started.is_some() || !self.state.sandboxes.is_empty();
        if self.admitted && !self.state.gone && plan::end(&self.pod, &self.state).is_none() {
            self.ctx.ledger.lock().take(&self.pod);
        }
    }

    /// Takes a new pod's place; why not, if it does not.
    pub(super) fn take_place(&self) -> Option<Verdict> {
        let now = self.ctx.now.lock().clone();
        let host = self.ctx.host();
        let mut ledger = self.ctx.ledger.lock();
        let pod = &self.pod;
        let lack = ledger.lack(pod).filter(|_| !pod::is_static(pod));
        let lack = lack.map(|lack| Verdict::new(format!("OutOf{}", lack.resource), lack.message()));
        let refused = admit::unwelcome(pod, &now).or(lack);
        let refused = refused.or_else(|| admit::misplaced(pod, &host, ledger.has_ports(pod)));
        if refused.is_none() {
            ledger.take(pod);
        }
        refused
    }

    /// Gives the pod's place back once it ends and nothing of it runs.
    pub(super) fn leave_place(&self) {
        let runs = self.state.running().next().is_some()
            || self.state.busy.iter().any(|task| matches!(task, plan::Task::Start { .. }));
        let over = self.state.gone || (self.state.stopping.is_some() && !runs);
        if over && self.ctx.ledger.lock().release(pod::uid(&self.pod)) {
            self.ctx.room.send_modify(|changes| *changes += 1);
        }
    }

    /// Decides whether the containers get the sizes that the API asks for.
    pub(super) fn judge_resize(&mut self) {
        // From here on any change of the node's room wakes the actor again.
        self.room.borrow_and_update();
        if self.state.asked.is_empty() || self.state.stopping.is_some() {
            self.state.pending = None;
            return;
        }
        let mut pod = Pod::clone(&self.pod);
        allocation::apply(&mut pod, &self.state.asked);
        let pending = match pod::is_static(&self.pod) {
            true => Some(Pending::infeasible("In-place resize of static-pods is not supported".into())),
            false => self.ctx.ledger.lock().resize(&pod).err().map(|lack| match lack.is_hopeless() {
                true => Pending::infeasible(lack.hopeless_message()),
                false => Pending { reason: "Deferred", message: lack.message() },
            }),
        };
        let Some(pending) = pending else { return self.promise(pod) };
        if self.state.pending.as_ref() != Some(&pending) {
            let reason = format!("Resize{}", pending.reason);
            let message = format!("Pod resize {}: {}", pending.reason.to_lowercase(), pending.message);
            self.ctx.event(&self.pod, None, "Warning", &reason, message);
        }
        self.state.pending = Some(pending);
    }

    fn promise(&mut self, mut pod: Pod) {
        self.state.promised = allocation::sizes(&mut pod);
        self.state.asked.clear();
        self.state.pending = None;
        self.pod = Arc::new(pod);
        // A smaller size makes room for others.
        self.ctx.room.send_modify(|changes| *changes += 1);
        self.room.borrow_and_update();
        self.ctx.event(&self.pod, None, "Normal", "ResizeStarted", self.told("started"));
    }

    /// Takes note of the size a container was made with, or was given.
    pub(super) fn sized(&mut self, id: String, size: ResourceRequirements) {
        let before = plan::resizing(&self.pod, &self.state);
        self.state.sized.insert(id, size);
        if before && !plan::resizing(&self.pod, &self.state) {
            self.ctx.event(&self.pod, None, "Normal", "ResizeCompleted", self.told("completed"));
        }
    }

    fn told(&self, what: &str) -> String {
        let size = |(name, resources)| json!({"name": name, "resources": resources});
        let containers: Vec<_> = self.state.promised.iter().map(size).collect();
        let generation = self.pod.metadata.generation;
        format!("Pod resize {what}: {}", json!({"containers": containers, "generation": generation}))
    }
}
