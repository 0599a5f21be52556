//! Objects through the API, for cases that read as prose: made, changed, watched and waited for by kind and name.
//!
//! kube-rs carries the requests, so a call costs no process and waiting needs no asking again. Each call blocks; an
//! answer is JSON, a refusal an error that [`refusal`] reads. Paths are written out, and queries are as in a URL.

use std::pin::Pin;

use anyhow::{Context, Result, bail, ensure};
use futures::{Stream, StreamExt, TryStreamExt};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{Namespace, PATIENCE};

/// A kind, and where its objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    group_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
}

pub const CONFIG_MAP: Kind = Kind::new("v1", "ConfigMap", "configmaps");
pub const CONTROLLER_REVISION: Kind = Kind::new("apps/v1", "ControllerRevision", "controllerrevisions");
pub const CRON_JOB: Kind = Kind::new("batch/v1", "CronJob", "cronjobs");
pub const CUSTOM_RESOURCE_DEFINITION: Kind =
    Kind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions").cluster();
pub const DAEMON_SET: Kind = Kind::new("apps/v1", "DaemonSet", "daemonsets");
pub const DEPLOYMENT: Kind = Kind::new("apps/v1", "Deployment", "deployments");
pub const EVENT: Kind = Kind::new("v1", "Event", "events");
pub const INGRESS_CLASS: Kind = Kind::new("networking.k8s.io/v1", "IngressClass", "ingressclasses").cluster();
pub const JOB: Kind = Kind::new("batch/v1", "Job", "jobs");
pub const NAMESPACE: Kind = Kind::new("v1", "Namespace", "namespaces").cluster();
pub const NODE: Kind = Kind::new("v1", "Node", "nodes").cluster();
pub const POD: Kind = Kind::new("v1", "Pod", "pods");
pub const POD_DISRUPTION_BUDGET: Kind = Kind::new("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets");
pub const REPLICA_SET: Kind = Kind::new("apps/v1", "ReplicaSet", "replicasets");
pub const REPLICATION_CONTROLLER: Kind = Kind::new("v1", "ReplicationController", "replicationcontrollers");
pub const RESOURCE_QUOTA: Kind = Kind::new("v1", "ResourceQuota", "resourcequotas");
pub const SECRET: Kind = Kind::new("v1", "Secret", "secrets");
pub const SERVICE: Kind = Kind::new("v1", "Service", "services");
pub const STATEFUL_SET: Kind = Kind::new("apps/v1", "StatefulSet", "statefulsets");

impl Kind {
    /// One whose objects are in namespaces.
    pub const fn new(group_version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { group_version, kind, plural, namespaced: true }
    }

    /// The same for one whose objects are in none.
    pub const fn cluster(self) -> Self {
        Self { namespaced: false, ..self }
    }

    /// Path of the collection.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group_version.contains('/') { "apis" } else { "api" };
        let Self { group_version, plural, .. } = self;
        match (self.namespaced, namespace) {
            (false, _) | (true, "") => format!("/{root}/{group_version}/{plural}"),
            (true, namespace) => format!("/{root}/{group_version}/namespaces/{namespace}/{plural}"),
        }
    }
}

/// Objects of one namespace, and what is in none.
pub struct Objects {
    runtime: Runtime,
    client: Client,
    namespace: String,
}

impl Objects {
    /// Those of a case's namespace.
    pub fn of(ns: &Namespace<'_>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(ns.cluster.kubeconfig())?;
            let mut config =
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            // A refusal is what some cases look for.
            config.default_retry = false;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client, namespace: ns.name.clone() })
    }

    /// The same, in another namespace.
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    /// An object, which need not be there.
    pub fn at(&self, kind: Kind, name: &str) -> At<'_> {
        At { objects: self, kind, name: name.to_owned(), path: self.path(kind) + "/" + name }
    }

    /// Makes an object; its kind is filled in.
    pub fn create(&self, kind: Kind, mut object: Value) -> Result<Value> {
        object["apiVersion"] = kind.group_version.into();
        object["kind"] = kind.kind.into();
        self.request("POST", &self.path(kind), &object)
    }

    /// A list, as it is answered.
    pub fn list(&self, kind: Kind, query: &str) -> Result<Value> {
        self.request("GET", &format!("{}?{query}", self.path(kind)), &Value::Null)
    }

    /// The objects of a list.
    pub fn items(&self, kind: Kind, query: &str) -> Result<Vec<Value>> {
        let mut list = self.list(kind, query)?;
        let Value::Array(items) = list["items"].take() else { bail!("no list: {list}") };
        Ok(items)
    }

    /// Deletes the objects that are selected.
    pub fn delete_all(&self, kind: Kind, query: &str) -> Result<Value> {
        self.request("DELETE", &format!("{}?{query}", self.path(kind)), &Value::Null)
    }

    /// Waits until the selected objects are as they should; they are told in no order.
    pub fn until(
        &self,
        kind: Kind,
        query: &str,
        what: &str,
        mut holds: impl FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let mut list = self.list(kind, query)?;
        let Value::Array(mut items) = list["items"].take() else { bail!("no list: {list}") };
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut changes = self.watch(kind, &format!("{query}&resourceVersion={version}"))?;
        while !holds(&items) {
            let next = changes.next();
            let (event, object) = next
                .with_context(|| format!("{} {query}: {what}; there is\n{}", kind.plural, brief(&items)))?;
            items.retain(|item| item["metadata"]["uid"] != object["metadata"]["uid"]);
            if event != "DELETED" {
                items.push(object);
            }
        }
        Ok(items)
    }

    /// Follows changes.
    pub fn watch(&self, kind: Kind, query: &str) -> Result<Changes<'_>> {
        self.follow(&self.path(kind), &format!("watch=1&{query}"))
    }

    /// The same of a path.
    pub fn follow(&self, path: &str, query: &str) -> Result<Changes<'_>> {
        let request = Request::get(format!("{path}?{query}")).body(Vec::new())?;
        let lines = self.wait(async { Ok(self.client.request_stream(request).await?) })?;
        let events = futures::AsyncBufReadExt::lines(lines).map_err(anyhow::Error::from).boxed_local();
        Ok(Changes { objects: self, events })
    }

    /// A path with a query.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, &Value::Null)
    }

    /// Any request; no body for null.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.send(method, path, "application/json", body)
    }

    /// Posts an object and asks for the answer in a form of its own.
    pub fn request_as(&self, path: &str, body: &Value, accept: &str) -> Result<Value> {
        let request = Request::post(path).header("Content-Type", "application/json").header("Accept", accept);
        let request = request.body(body.to_string().into_bytes())?;
        self.wait(async { Ok(self.client.request(request).await?) })
    }

    fn send(&self, method: &str, path: &str, form: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("Content-Type", form).body(body)?;
        self.wait(async { Ok(self.client.request(request).await?) })
    }

    fn path(&self, kind: Kind) -> String {
        kind.path(&self.namespace)
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await? })
    }
}

/// An object's place.
pub struct At<'a> {
    objects: &'a Objects,
    kind: Kind,
    name: String,
    path: String,
}

impl At<'_> {
    /// A subresource of it.
    pub fn sub(&self, subresource: &str) -> Self {
        At { path: format!("{}/{subresource}", self.path), name: self.name.clone(), ..*self }
    }

    /// Makes it.
    pub fn create(&self, mut object: Value) -> Result<Value> {
        object["metadata"]["name"] = self.name.as_str().into();
        self.objects.create(self.kind, object)
    }

    /// Reads it.
    pub fn get(&self) -> Result<Value> {
        self.objects.get(&self.path)
    }

    /// Puts another in its place.
    pub fn replace(&self, object: &Value) -> Result<Value> {
        self.objects.request("PUT", &self.path, object)
    }

    /// Sends a body to it, as a binding or an eviction.
    pub fn post(&self, body: &Value) -> Result<Value> {
        self.objects.request("POST", &self.path, body)
    }

    /// Reads it, changes it and puts it back, again if somebody was faster.
    pub fn update(&self, change: impl Fn(&mut Value)) -> Result<Value> {
        loop {
            let mut object = self.get()?;
            change(&mut object);
            match self.replace(&object) {
                Err(error) if error.downcast_ref().is_some_and(is_conflict) => {}
                outcome => return outcome,
            }
        }
    }

    /// Changes it by a merge patch.
    pub fn merge(&self, patch: &Value) -> Result<Value> {
        self.objects.send("PATCH", &self.path, "application/merge-patch+json", patch)
    }

    /// Changes it by a strategic merge patch, which knows lists' keys.
    pub fn patch(&self, patch: &Value) -> Result<Value> {
        self.objects.send("PATCH", &self.path, "application/strategic-merge-patch+json", patch)
    }

    /// Deletes it, with options such as a policy.
    pub fn delete(&self, options: &Value) -> Result<Value> {
        self.objects.request("DELETE", &self.path, options)
    }

    /// Waits until it is as it should; `null` while it is not there.
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Result<Value> {
        let query = format!("fieldSelector=metadata.name={}", self.name);
        let mut found = self
            .objects
            .until(self.kind, &query, what, |items| holds(items.first().unwrap_or(&Value::Null)))?;
        Ok(found.pop().unwrap_or_default())
    }

    /// Waits until it is there no more.
    pub fn gone(&self) -> Result<()> {
        self.until("it is gone", Value::is_null).map(drop)
    }
}

/// A watch.
pub struct Changes<'a> {
    objects: &'a Objects,
    events: Pin<Box<dyn Stream<Item = Result<String>>>>,
}

impl Changes<'_> {
    /// The next event's type and object. An error after a time without any.
    pub fn next(&mut self) -> Result<(String, Value)> {
        let Self { objects, events } = self;
        let line = objects.wait(async { events.next().await.context("the watch ended")? })?;
        let mut event: Value = serde_json::from_str(&line)?;
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        ensure!(kind != "ERROR", "{event}");
        Ok((kind, event["object"].take()))
    }

    /// Waits for an event of a type about an object.
    pub fn expect(&mut self, kind: &str, name: &str) -> Result<Value> {
        let (found, object) = self.next().with_context(|| format!("no {kind} of {name}"))?;
        ensure!(
            found == kind && object["metadata"]["name"] == name,
            "{found}, not {kind} of {name}: {object}"
        );
        Ok(object)
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

/// The Status with which a request was refused; an error if it was not.
pub fn refusal(outcome: Result<Value>) -> Result<Status> {
    match outcome.map_err(|error| error.downcast()) {
        Ok(answer) => bail!("it was not refused: {answer}"),
        Err(Ok(kube::Error::Api(status))) => Ok(*status),
        Err(Ok(other)) => Err(other.into()),
        Err(Err(other)) => Err(other),
    }
}

/// Names of objects, sorted.
pub fn names(items: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    names.sort_unstable();
    names
}

/// What is seen of objects when a wait ends in vain.
fn brief(items: &[Value]) -> String {
    let one = |item: &Value| {
        json!({"name": item["metadata"]["name"], "deleted": item["metadata"]["deletionTimestamp"],
            "owners": item["metadata"]["ownerReferences"], "status": item["status"]})
        .to_string()
    };
    items.iter().map(one).collect::<Vec<_>>().join("\n")
}
