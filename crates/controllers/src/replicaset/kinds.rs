//! The two kinds that keep a number of pods, and all in which they differ: ReplicaSet and ReplicationController.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use tiphys_client::typed::Kind;

/// A kind that keeps a number of pods.
pub(crate) trait Replicated: Kind {
    /// The kind, as owner references name it.
    const KIND: &'static str;
    /// Name of its controller's service account, and the source of its events.
    const CONTROLLER: &'static str;

    /// How many pods it is to have; `None` stands for one.
    fn replicas(&self) -> Option<i32>;
    /// How long a pod must be ready to count as available.
    fn min_ready_seconds(&self) -> i32;
    /// What its pods are made from.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The conditions of its status.
    fn conditions(&self) -> Vec<ReplicaSetCondition>;
    /// It with another status; `None` if that is the one it has.
    fn with_status(&self, status: ReplicaSetStatus) -> Option<Self>;
}

impl Replicated for ReplicaSet {
    const KIND: &'static str = "ReplicaSet";
    const CONTROLLER: &'static str = "replicaset-controller";

    fn replicas(&self) -> Option<i32> {
        self.spec.as_ref()?.replicas
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        self.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Option<Self> {
        let changed = self.status.as_ref() != Some(&status);
        changed.then(|| Self { status: Some(status), ..self.clone() })
    }
}

impl Replicated for ReplicationController {
    const KIND: &'static str = "ReplicationController";
    const CONTROLLER: &'static str = "replication-controller";

    fn replicas(&self) -> Option<i32> {
        self.spec.as_ref()?.replicas
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        let same = |condition: ReplicationControllerCondition| ReplicaSetCondition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.last_transition_time,
        };
        let conditions = self.status.clone().and_then(|status| status.conditions);
        conditions.into_iter().flatten().map(same).collect()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Option<Self> {
        let same = |condition: ReplicaSetCondition| ReplicationControllerCondition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(same).collect()),
        };
        let changed = self.status.as_ref() != Some(&status);
        changed.then(|| Self { status: Some(status), ..self.clone() })
    }
}
