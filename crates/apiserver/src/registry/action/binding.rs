//! `pods/binding`: the scheduler's word which node runs a pod.

use jiff::Timestamp;
use tiphys_api::{Gvk, Gvr, Status, Value, field};

use super::super::request::{Body, Request, WriteParams, Written};
use super::super::{Registry, decode, tree};

const BINDING: Gvk = Gvk::new("", "v1", "Binding");
const PODS: Gvr = Gvr::new("", "v1", "pods");
/// The name under which conflicts are reported.
const PODS_BINDING: Gvr = Gvr::new("", "v1", "pods/binding");

impl Registry {
    pub(super) async fn bind(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        let mut binding = decode::loose(&BINDING, body)?;
        let name = tree::text(&binding, &["metadata", "name"]);
        if !request.name.is_empty() && !name.is_empty() && name != request.name {
            return Err(decode::wrong_name(name, request.name));
        }
        let name = if request.name.is_empty() { name.to_owned() } else { request.name.to_owned() };
        let name = name.as_str();
        check(&binding, name)?;
        self.admit_action(request, &BINDING, &mut binding, params).await?;
        let pods = tiphys_api::schema::builtin().get(&PODS).ok_or_else(Status::no_such_path)?;
        let request = Request { resource: pods, name, subresource: "binding", ..*request };
        let make = |pod: Option<&Value>| bound(pod.cloned().unwrap_or(Value::Null), &binding, name);
        self.carry_out(&request, params, &make).await?;
        super::success()
    }
}

fn check(binding: &Value, name: &str) -> Result<(), Status> {
    let path = field::Path::new("target");
    let mut errors = field::Errors::new();
    let kind = tree::text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(field::Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if tree::text(binding, &["target", "name"]).is_empty() {
        errors.push(field::Error::required(&path.child("name"), ""));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&BINDING, name, &errors)),
    }
}

/// The pod with its node, or why it cannot have it.
fn bound(mut pod: Value, binding: &Value, name: &str) -> Result<Value, Status> {
    let refuse = |why: String| Err(Status::conflict(&PODS_BINDING, name, &why));
    if !tree::at(&pod, &["metadata", "deletionTimestamp"]).is_null() {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let assigned = tree::text(&pod, &["spec", "nodeName"]);
    if !assigned.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {assigned:?}"));
    }
    if !tree::items(&pod, &["spec", "schedulingGates"]).is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    tree::set(&mut pod, &["spec", "nodeName"], tree::at(binding, &["target", "name"]).clone());
    for kind in ["annotations", "labels"] {
        for (key, value) in tree::at(binding, &["metadata", kind]).as_object().into_iter().flatten() {
            tree::set(&mut pod, &["metadata", kind, key], value.clone());
        }
    }
    for precondition in ["uid", "resourceVersion"] {
        let value = tree::at(binding, &["metadata", precondition]).clone();
        tree::set(&mut pod, &["metadata", precondition], value);
    }
    set_scheduled(&mut pod);
    Ok(pod)
}

fn set_scheduled(pod: &mut Value) {
    let condition = tiphys_api::json!({
        "lastTransitionTime": tree::time(Timestamp::now()),
        "status": "True",
        "type": "PodScheduled",
    });
    let mut conditions = tree::items(pod, &["status", "conditions"]).to_vec();
    conditions.retain(|c| tree::text(c, &["type"]) != "PodScheduled");
    conditions.push(condition);
    tree::set(pod, &["status", "conditions"], conditions.into());
}
