//! Webhooks over the registry's own write path: the cluster is a store in memory, the webhooks are functions.

mod exchange;
mod matching;
mod mutations;
mod outcomes;
mod policies;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tiphys_api::schema::{Resource, builtin};
use tiphys_api::{Gvr, Value, json};

use super::*;
use crate::admission::policy::{MutatingAdmissionPolicies, ValidatingAdmissionPolicies};
use crate::auth::User;
use crate::hook::{ClientConfig, HookError};
use crate::registry::Converter;
use crate::registry::testing::{AllowAll, Fixture, fixture_with};
use crate::registry::{Body, DeleteParams, PatchType, Request, WriteParams, Written};

/// What a webhook says: its `response` without the uid.
type Says = fn(&Value) -> Result<Value, HookError>;

/// Calls functions by the path of the URL, and remembers what they were asked.
#[derive(Default)]
struct Fake {
    says: Vec<(&'static str, Says)>,
    asked: Mutex<Vec<(String, Value)>>,
}

#[async_trait]
impl Caller for Fake {
    async fn call(&self, to: &ClientConfig, body: Bytes, _: Duration) -> Result<Bytes, HookError> {
        let review = Value::from_json(&body).unwrap();
        let path = to.url.as_deref().unwrap().trim_start_matches("https://h/").to_owned();
        let (_, says) = self.says.iter().find(|(known, _)| *known == path).unwrap();
        self.asked.lock().push((path, review["request"].clone()));
        let mut response = says(&review["request"])?;
        response["uid"] = review["request"]["uid"].clone();
        let answer =
            json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response});
        Ok(serde_json::to_vec(&answer).unwrap().into())
    }
}

fn allow(_: &Value) -> Result<Value, HookError> {
    Ok(json!({"allowed": true}))
}

fn patch(operations: &Value) -> Value {
    use base64::Engine;
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// The versions of built-in kinds.
fn versions(caller: Arc<dyn Caller>) -> Arc<dyn Versions> {
    Arc::new(Convertible { kinds: Arc::default(), converter: Converter::new(caller) })
}

/// A cluster with webhooks.
struct Cluster {
    fixture: Fixture,
    fake: Arc<Fake>,
    user: User,
}

impl Cluster {
    async fn new(says: &[(&'static str, Says)]) -> Self {
        let fake = Arc::new(Fake { says: says.to_vec(), asked: Mutex::default() });
        let caller = fake.clone();
        let fixture = fixture_with(|lister| {
            let webhooks =
                Webhooks::new(caller.clone(), lister.clone(), Arc::new(AllowAll), versions(caller));
            webhooks.open();
            let mutating = MutatingAdmissionPolicies::new(webhooks.clone(), lister.clone(), Arc::default());
            let validating = ValidatingAdmissionPolicies::new(webhooks.clone(), lister, Arc::default());
            let policies: [Arc<dyn Plugin>; 2] = [Arc::new(mutating), Arc::new(validating)];
            policies.into_iter().chain(webhooks.plugins()).collect()
        })
        .await;
        let user = User { name: "jane".into(), groups: vec!["devs".into()], ..User::default() };
        let cluster = Self { fixture, fake, user };
        cluster
            .create("namespaces", &json!({"metadata": {"name": "ns", "labels": {"in": "ns"}}}))
            .await
            .unwrap();
        cluster
    }

    /// Registers a webhook `x.example.com` at a path, with what differs from one that takes all.
    async fn hook(&self, resource: &str, name: &str, path: &str, differs: &Value) {
        let rule =
            json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
        let mut webhook = json!({"name": format!("{path}.example.com"), "rules": [rule], "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": format!("https://h/{path}")}});
        for (key, value) in differs.as_object().unwrap() {
            webhook[key.as_str()] = value.clone();
        }
        let resource = format!("admissionregistration.k8s.io/{resource}webhookconfigurations");
        self.create(&resource, &json!({"metadata": {"name": name}, "webhooks": [webhook]})).await.unwrap();
    }

    async fn mutating(&self, path: &str, differs: &Value) {
        self.hook("mutating", path, path, differs).await;
    }

    async fn validating(&self, path: &str, differs: &Value) {
        self.hook("validating", path, path, differs).await;
    }

    fn request<'r>(&'r self, resource: &'r Arc<Resource>, name: &'r str) -> Request<'r> {
        let namespace = if resource.namespaced { "ns" } else { "" };
        Request { resource, namespace, name, subresource: "", user: &self.user }
    }

    async fn create(&self, resource: &str, object: &Value) -> Result<Value, Status> {
        self.create_with(resource, object, &WriteParams::default()).await
    }

    async fn create_with(&self, path: &str, object: &Value, params: &WriteParams) -> Result<Value, Status> {
        let resource = resource(path);
        let request = self.request(&resource, "");
        self.value(
            self.fixture.registry.create(&request, Body::Json(object.to_string().into()), params).await,
        )
    }

    async fn merge(&self, path: &str, name: &str, subresource: &str, body: &Value) -> Result<Value, Status> {
        let resource = resource(path);
        let request = Request { subresource, ..self.request(&resource, name) };
        let (body, params) = (Body::Json(body.to_string().into()), WriteParams::default());
        self.value(self.fixture.registry.patch(&request, PatchType::Merge, body, &params).await)
    }

    fn value(&self, written: Result<Written, Status>) -> Result<Value, Status> {
        written.map(|written| written.object.value().unwrap())
    }

    async fn delete(&self, path: &str, name: &str) -> Result<(), Status> {
        let resource = resource(path);
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.fixture.registry.delete(&self.request(&resource, name), &params).await.map(drop)
    }

    /// What webhooks were asked since the last look.
    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.fake.asked.lock())
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, _)| path).collect()
    }
}

/// `pods`, or `group/resource` in the first version, or `group/version/resource`.
fn resource(path: &str) -> Arc<Resource> {
    let parts: Vec<&str> = path.split('/').collect();
    let (group, version, name) = match parts.as_slice() {
        [name] => ("", "v1", *name),
        [group, name] => (*group, "v1", *name),
        [group, version, name] => (*group, *version, *name),
        _ => panic!("{path}"),
    };
    builtin().get(&Gvr::owned(group, version, name)).unwrap().clone()
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": name}}, "data": data})
}
