//! Between the version a client speaks and the version the store keeps.
//!
//! - Versions of built-in kinds, and of custom resources whose definition names no webhook, are converted here and now.
//! - Others are converted by their webhook, as many at once as are needed: one `ConversionReview` for a list. What comes
//!   back is held to what a conversion may change: all but the object's identity (labels and annotations aside).
//! - A webhook's objects stay in the store in the version they were written in: each says its own.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tiphys_api::apply::folded;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Meta, Object, Status, Value, json, structural};

use super::tree;
use crate::hook::{Caller, ClientConfig};

/// How long a webhook may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Converts objects.
#[derive(Clone)]
pub struct Converter(Arc<dyn Caller>);

/// Whether the two are the same version of the same group.
pub fn is_same(a: &Resource, b: &Resource) -> bool {
    a.gvk == b.gvk
}

/// The webhook that converts objects of a resource.
fn webhook(resource: &Resource) -> Option<&Value> {
    resource.custom.as_ref().and_then(|custom| custom.webhook.as_ref())
}

/// Whether objects of a resource may be stored in several versions.
pub fn is_mixed(stored: &Resource) -> bool {
    webhook(stored).is_some()
}

/// Whether an object is stored in another version than the one wanted.
fn differs(wanted: &Resource, stored: &Resource, object: &Object) -> bool {
    match webhook(stored) {
        None => !is_same(wanted, stored),
        Some(_) => !structural::is_of(&wanted.gvk, object.json()),
    }
}

impl Converter {
    /// Webhooks are asked through `caller`.
    pub fn new(caller: Arc<dyn Caller>) -> Self {
        Self(caller)
    }

    /// A stored object as a client of another version sees it. The very same object when the versions are the same.
    pub async fn object(
        &self,
        wanted: &Arc<Resource>,
        stored: &Arc<Resource>,
        object: Object,
    ) -> Result<Object, Status> {
        if !differs(wanted, stored, &object) {
            return Ok(object);
        }
        let mut converted = self.objects(wanted, stored, vec![object]).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion lost the object"))
    }

    /// The same of many, in their order.
    pub async fn objects(
        &self,
        wanted: &Arc<Resource>,
        stored: &Arc<Resource>,
        objects: Vec<Object>,
    ) -> Result<Vec<Object>, Status> {
        let Some(webhook) = webhook(stored) else {
            let convert =
                |object| if is_same(wanted, stored) { Ok(object) } else { here(wanted, stored, &object) };
            return objects.into_iter().map(convert).collect();
        };
        let others = objects.iter().filter(|object| differs(wanted, stored, object));
        let others: Vec<Value> =
            others.map(|object| object.value().map_err(Status::internal)).collect::<Result<_, _>>()?;
        if others.is_empty() {
            return Ok(objects);
        }
        let mut converted = self.ask(webhook, wanted, others).await?.into_iter();
        let next = |object: Object| match differs(wanted, stored, &object) {
            false => Ok(object),
            true => remade(wanted, &object, &converted.next().unwrap_or_default()),
        };
        objects.into_iter().map(next).collect()
    }

    /// A tree (folded or not) of one version in another.
    pub async fn tree(&self, from: &Resource, to: &Arc<Resource>, mut tree: Value) -> Result<Value, Status> {
        if is_same(from, to) {
            return Ok(tree);
        }
        let Some(webhook) = webhook(to) else {
            tiphys_api::convert::between(from, to, &mut tree);
            return Ok(tree);
        };
        let plain = folded::write(&tree).map_err(Status::internal)?;
        let plain = Value::from_json(&plain).map_err(Status::internal)?;
        let mut converted = self.ask(webhook, to, vec![plain]).await?.pop().unwrap_or_default();
        // Who owns what is a text in the tree that came.
        let sets = tree::at(&tree, &["metadata", "managedFields"]).clone();
        tree::set(&mut converted, &["metadata", "managedFields"], sets);
        Ok(converted)
    }

    /// Asks a webhook for objects in a version.
    async fn ask(
        &self,
        webhook: &Value,
        wanted: &Resource,
        objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let config = tree::at(webhook, &["clientConfig"]).to_string();
        let config: ClientConfig = serde_json::from_str(&config).map_err(Status::internal)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = review(webhook, wanted, &uid, &objects);
        let failed = |why: &dyn std::fmt::Display| failure(&wanted.gvk, &format!("failed: {why}"));
        let answer = self.0.call(&config, review.to_string().into(), PATIENCE).await;
        let answer = answer.map_err(|error| failed(&error))?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| failed(&error))?;
        let mut converted = answer.objects(&wanted.gvk, &uid, objects.len())?;
        for (object, original) in converted.iter_mut().zip(&objects) {
            settle(wanted, object, original)?;
        }
        Ok(converted)
    }
}

/// Without a webhook.
fn here(wanted: &Arc<Resource>, stored: &Arc<Resource>, object: &Object) -> Result<Object, Status> {
    let mut tree = object.value().map_err(Status::internal)?;
    tiphys_api::convert::between(stored, wanted, &mut tree);
    let bytes = serde_json::to_vec(&tree).map_err(Status::internal)?;
    Ok(Object::new(object.meta().clone(), bytes.into()))
}

/// An object with what a webhook made of it.
fn remade(wanted: &Resource, object: &Object, converted: &Value) -> Result<Object, Status> {
    let bytes = serde_json::to_vec(converted).map_err(Status::internal)?;
    let mut meta = Meta::parse(&bytes).map_err(Status::internal)?;
    meta.resource_version = object.meta().resource_version;
    meta.fields = wanted.selectable(converted);
    Ok(Object::new(meta, bytes.into()))
}

fn review(webhook: &Value, wanted: &Resource, uid: &str, objects: &[Value]) -> Value {
    let versions = tree::items(webhook, &["conversionReviewVersions"]);
    let known =
        versions.iter().filter_map(Value::as_str).find(|version| matches!(*version, "v1" | "v1beta1"));
    json!({
        "apiVersion": format!("apiextensions.k8s.io/{}", known.unwrap_or("v1")),
        "kind": "ConversionReview",
        "request": { "uid": uid, "desiredAPIVersion": wanted.gvk.api_version(), "objects": objects },
    })
}

/// What a webhook answers.
#[derive(Deserialize)]
struct Answer {
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Response {
    uid: String,
    converted_objects: Vec<Value>,
    result: Outcome,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    status: String,
    message: String,
}

impl Answer {
    fn objects(self, gvk: &Gvk, uid: &str, count: usize) -> Result<Vec<Value>, Status> {
        let response = self.response.ok_or_else(|| failure(gvk, "failed: no response provided"))?;
        if response.uid != uid {
            let why = format!("failed: expected response.uid={uid:?}, got {:?}", response.uid);
            return Err(failure(gvk, &why));
        }
        if response.result.status != "Success" {
            let why = match response.result.message.as_str() {
                "" => "status was not Success",
                text => text,
            };
            return Err(failure(gvk, &format!("failed: {why}")));
        }
        let found = response.converted_objects.len();
        if found != count {
            let why = format!("returned {found} objects, expected {count}");
            return Err(failure(gvk, &why));
        }
        Ok(response.converted_objects)
    }
}

/// Checks what a webhook made, and puts back what it may not change.
fn settle(wanted: &Resource, object: &mut Value, original: &Value) -> Result<(), Status> {
    let refused = |what: &str, why: String| failure(&wanted.gvk, &format!("returned invalid {what}: {why}"));
    let (version, kind) = (tree::text(object, &["apiVersion"]), tree::text(object, &["kind"]));
    if version != wanted.gvk.api_version() || kind != wanted.gvk.kind {
        let why = format!("{version}, Kind={kind}, expected {}", wanted.gvk);
        return Err(refused("converted object", why));
    }
    for name in ["name", "namespace", "uid"] {
        let (new, old) = (tree::at(object, &["metadata", name]), tree::at(original, &["metadata", name]));
        if new != old {
            return Err(refused("metadata", format!("must have the same {name}: {new} != {old}")));
        }
    }
    let mut metadata = tree::at(original, &["metadata"]).clone();
    for name in ["labels", "annotations"] {
        tree::set(&mut metadata, &[name], tree::at(object, &["metadata", name]).clone());
    }
    tree::set(object, &["metadata"], metadata);
    if let Some(custom) = &wanted.custom {
        structural::to_version(custom, &wanted.gvk, object);
    }
    Ok(())
}

fn failure(gvk: &Gvk, why: &str) -> Status {
    Status::failure(500, "", format!("conversion webhook for {gvk} {why}"))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::hook::HookError;

    /// Splits `spec.hostPort` for v2, and spoils the answer as it is told.
    struct Splitter {
        asked: Mutex<usize>,
        spoil: fn(&mut Value),
    }

    #[async_trait]
    impl Caller for Splitter {
        async fn call(&self, to: &ClientConfig, body: Bytes, _: Duration) -> Result<Bytes, HookError> {
            assert_eq!(to.url.as_deref(), Some("https://h/convert"));
            let review = Value::from_json(&body).unwrap();
            let request = tree::at(&review, &["request"]);
            *self.asked.lock() += 1;
            let mut objects = tree::items(request, &["objects"]).to_vec();
            for object in &mut objects {
                object["apiVersion"] = request["desiredAPIVersion"].clone();
                let text = tree::text(object, &["spec", "hostPort"]).to_owned();
                if let Some((host, port)) = text.split_once(':') {
                    object["spec"] = json!({"host": host, "port": port, "more": 1});
                }
            }
            let mut response =
                json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
            (self.spoil)(&mut response);
            Ok(json!({"kind": "ConversionReview", "response": response}).to_string().into())
        }
    }

    fn versions() -> (Arc<Resource>, Arc<Resource>) {
        let schema = |fields: &[&str]| {
            let fields: Value =
                fields.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
            json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}})
        };
        let definition = json!({"spec": {
            "group": "example.com", "names": {"plural": "ends", "kind": "End"},
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "https://h/convert"}, "conversionReviewVersions": ["v1"]}},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema(&["hostPort"])},
                {"name": "v2", "served": true, "storage": false, "schema": schema(&["host", "port"])},
            ],
        }});
        let mut versions =
            structural::versions(&definition, &|_| None).into_iter().map(|version| version.resource);
        (versions.next().unwrap(), versions.next().unwrap())
    }

    fn object(version: &str, spec: &Value) -> Object {
        let tree = json!({
            "apiVersion": format!("example.com/{version}"), "kind": "End",
            "metadata": {"name": "a", "resourceVersion": "7", "uid": "u"}, "spec": spec,
        });
        Object::parse(tree.to_string().into()).unwrap()
    }

    async fn converted(spoil: fn(&mut Value)) -> (usize, Result<Vec<Value>, String>) {
        let (v1, v2) = versions();
        let splitter = Arc::new(Splitter { asked: Mutex::default(), spoil });
        let converter = Converter::new(splitter.clone());
        let list =
            vec![object("v1", &json!({"hostPort": "h:1"})), object("v2", &json!({"host": "i", "port": "2"}))];
        let converted = converter.objects(&v2, &v1, list).await.map_err(|status| status.message);
        let trees = converted.map(|list| list.iter().map(|object| object.value().unwrap()).collect());
        let asked = *splitter.asked.lock();
        (asked, trees)
    }

    #[tokio::test]
    async fn a_list_is_converted_at_once_where_it_has_to_be() {
        let (asked, list) = converted(|_| {}).await;
        let list = list.unwrap();
        assert_eq!(asked, 1);
        assert_eq!(list[0]["spec"], json!({"host": "h", "port": "1"}), "and pruned");
        assert_eq!(list[0]["metadata"]["resourceVersion"], "7");
        assert_eq!(list[1]["spec"], json!({"host": "i", "port": "2"}));
    }

    #[tokio::test]
    async fn what_a_conversion_may_not_do_is_refused() {
        let head = "conversion webhook for example.com/v2, Kind=End ";
        for (spoil, why) in [
            ((|r| r["uid"] = "x".into()) as fn(&mut Value), "failed: expected response.uid="),
            (|r| r["result"] = json!({"status": "Failure", "message": "no"}), "failed: no"),
            (|r| r["convertedObjects"] = json!([]), "returned 0 objects, expected 1"),
            (
                |r| r["convertedObjects"][0]["metadata"]["name"] = "b".into(),
                "returned invalid metadata: must have the same name",
            ),
            (|r| r["convertedObjects"][0]["kind"] = "Other".into(), "returned invalid converted object: "),
        ] {
            let (_, outcome) = converted(spoil).await;
            let message = outcome.unwrap_err();
            assert!(message.starts_with(&format!("{head}{why}")), "{message}");
        }
    }

    #[tokio::test]
    async fn who_changes_what_stays_known() {
        let (v1, v2) = versions();
        let converter = Converter::new(Arc::new(Splitter { asked: Mutex::default(), spoil: |_| {} }));
        let folded = json!({"apiVersion": "example.com/v1", "kind": "End", "metadata": {"name": "a",
            "managedFields": [{"fieldsV1": "{\"f:spec\":{}}"}]}, "spec": {"hostPort": "h:1"}});
        let tree = converter.tree(&v1, &v2, folded).await.unwrap();
        assert_eq!(tree["spec"]["host"], "h");
        assert_eq!(tree["metadata"]["managedFields"][0]["fieldsV1"], "{\"f:spec\":{}}");
    }
}
