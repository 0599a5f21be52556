//! A node as the scheduler sees it: what it offers, what is taken, and whom it admits.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use tiphys_api::Object;
use tiphys_client::typed;

use crate::pod::{HostPort, Pod, Resources};

/// A node with the sum of its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// What the node says of itself; shared between snapshots.
    pub facts: Arc<Facts>,
    /// Sum of its pods' requests.
    pub taken: Resources,
    /// Its pods' ports.
    pub ports: Vec<HostPort>,
}

/// What the node says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Name.
    pub name: Box<str>,
    /// Labels.
    pub labels: tiphys_api::object::Labels,
    /// Taints.
    pub taints: Vec<core::Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What pods may take.
    pub allocatable: Resources,
}

impl Facts {
    /// Reads what is needed of an object.
    pub fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let node = typed::decode::<core::Node>(object)?;
        let spec = node.spec.unwrap_or_default();
        let allocatable = node.status.and_then(|s| s.allocatable);
        Ok(Self {
            name: object.meta().name.clone(),
            labels: object.meta().labels.clone(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            allocatable: Resources::read(allocatable.iter().flatten()),
        })
    }
}

impl Node {
    /// Counts a pod in.
    pub fn add(&mut self, pod: &Pod) {
        self.taken.add(&pod.requests);
        self.ports.extend(pod.ports.iter().cloned());
    }

    /// Counts a pod out.
    pub fn remove(&mut self, pod: &Pod) {
        self.taken.subtract(&pod.requests);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}
