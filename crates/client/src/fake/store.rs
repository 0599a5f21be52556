//! The fake cluster's objects and history, and the API's rules about them. A revision is a place in the history.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use jiff::Timestamp;
use tiphys_api::selector::{FieldSelector, LabelSelector};
use tiphys_api::{Gvr, Map, Object, Status, Value, json};

use crate::{DeleteOptions, PatchKind, Target, WatchEvent};

type Key = (Gvr, String, String);

#[derive(Default)]
pub(super) struct State {
    objects: BTreeMap<Key, Object>,
    /// Every change. The change at place `i` made revision `i + 1`.
    pub(super) history: Vec<Change>,
    pub(super) paths: HashMap<String, Bytes>,
    names: u64,
}

#[derive(Clone)]
pub(super) struct Change {
    pub(super) gvr: Gvr,
    old: Option<Object>,
    /// The new version, or the last one of an object that is gone.
    last: Object,
    gone: bool,
}

pub(super) struct Selector {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Default for Selector {
    fn default() -> Self {
        Self { labels: LabelSelector::everything(), fields: FieldSelector::everything() }
    }
}

impl Selector {
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Status> {
        let bad = |e: tiphys_api::selector::SelectorError| Status::bad_request(e.to_string());
        let labels = LabelSelector::parse(labels).map_err(bad)?;
        Ok(Self { labels, fields: FieldSelector::parse(fields).map_err(bad)? })
    }

    fn matches(&self, object: &Object) -> bool {
        if !self.labels.matches(&object.meta().labels) {
            return false;
        }
        let value = if self.fields.is_everything() { Value::Null } else { tree(object) };
        let find = |path: &str| value.pointer(&format!("/{}", path.replace('.', "/")));
        self.fields.matches(|path| Some(find(path).and_then(Value::as_str).unwrap_or_default()))
    }
}

impl Change {
    pub(super) fn namespace(&self) -> &str {
        &self.last.meta().namespace
    }

    /// The event of this change for a watcher with a selector, if it sees one.
    pub(super) fn seen_by(&self, selector: &Selector) -> Option<WatchEvent> {
        let before = self.old.as_ref().is_some_and(|object| selector.matches(object));
        let after = !self.gone && selector.matches(&self.last);
        let object = self.last.clone();
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(WatchEvent::Added(object)),
            (true, true) => Some(WatchEvent::Modified(object)),
            (true, false) => Some(WatchEvent::Deleted(object)),
        }
    }
}

impl State {
    pub(super) fn get(&self, target: &Target) -> Result<Object, Status> {
        let found = self.objects.get(&key(target)).cloned();
        let found = found.ok_or_else(|| Status::not_found(&target.gvr, &target.name))?;
        Ok(if target.subresource == "scale" { scale(&found) } else { found })
    }

    pub(super) fn list(&self, gvr: &Gvr, namespace: &str, selector: &Selector) -> Vec<Object> {
        let of = self.objects.iter().filter(|(key, _)| key.0 == *gvr);
        let here = of.filter(|(key, _)| namespace.is_empty() || key.1 == namespace);
        here.filter(|(_, object)| selector.matches(object)).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn put(&mut self, gvr: &Gvr, mut value: Value) -> Object {
        let target = Target::new(gvr, text(&value, "namespace"), text(&value, "name"));
        let old = self.get(&target).ok();
        let uid = old.map_or_else(|| self.uid(), |old| old.meta().uid.to_string());
        meta(&mut value).entry("uid").or_insert(uid.into());
        meta(&mut value).entry("creationTimestamp").or_insert_with(now);
        meta(&mut value).entry("generation").or_insert_with(|| json!(1));
        self.commit(&target, Some(value))
    }

    pub(super) fn remove(&mut self, target: &Target) {
        if self.get(target).is_ok() {
            self.commit(target, None);
        }
    }

    pub(super) fn create(&mut self, target: &Target, mut body: Value) -> Result<Object, Status> {
        if target.subresource == "binding" {
            return self.bind(target, &body);
        }
        if target.subresource == "eviction" {
            let pod = Target { subresource: "", ..target.clone() };
            return self.delete(&pod, &DeleteOptions::default())?.ok_or_else(|| Status::failure(200, "", ""));
        }
        let mut target = target.clone();
        let meta = meta(&mut body);
        if let (Some(prefix), true) =
            (meta.get("generateName").and_then(Value::as_str), target.name.is_empty())
        {
            self.names += 1;
            target.name = format!("{prefix}{:05}", self.names);
        }
        if self.get(&target).is_ok() {
            return Err(Status::already_exists(&target.gvr, &target.name));
        }
        meta.insert("name".into(), target.name.as_str().into());
        if !target.namespace.is_empty() {
            meta.insert("namespace".into(), target.namespace.as_str().into());
        }
        meta.insert("uid".into(), self.uid().into());
        meta.insert("creationTimestamp".into(), now());
        meta.insert("generation".into(), 1.into());
        Ok(self.commit(&target, Some(body)))
    }

    fn bind(&mut self, target: &Target, body: &Value) -> Result<Object, Status> {
        let mut pod = tree(&self.get(target)?);
        pod["spec"]["nodeName"] = body["target"]["name"].clone();
        Ok(self.commit(target, Some(pod)))
    }

    pub(super) fn update(&mut self, target: &Target, mut body: Value) -> Result<Object, Status> {
        if target.subresource == "scale" {
            let whole = Target { subresource: "", ..target.clone() };
            let mut scaled = tree(&self.get(&whole)?);
            scaled["spec"]["replicas"] = body["spec"]["replicas"].take();
            return self.update(&whole, scaled).map(|object| scale(&object));
        }
        let old = self.get(target)?;
        let sent = text(&body, "resourceVersion");
        if !sent.is_empty() && sent != old.meta().resource_version.to_string() {
            return Err(Status::modified(&target.gvr, &target.name));
        }
        let before = tree(&old);
        if target.subresource == "status" {
            let status = body["status"].take();
            body = before.clone();
            body["status"] = status;
        } else if target.subresource == "finalize" {
            let finalizers = body["spec"]["finalizers"].take();
            body = before.clone();
            body["spec"]["finalizers"] = finalizers;
        } else if !before["status"].is_null() {
            body["status"] = before["status"].clone();
        }
        if body["spec"] != before["spec"] {
            meta(&mut body).insert("generation".into(), (old.meta().generation + 1).into());
        }
        for fixed in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            match &before["metadata"][fixed] {
                Value::Null => meta(&mut body).remove(fixed),
                value => meta(&mut body).insert(fixed.into(), value.clone()),
            };
        }
        if same(&before, &body) {
            return Ok(old);
        }
        let finished = old.meta().deleted.is_some() && finalizers(&body) == 0 && grace(&body) == 0;
        Ok(self.commit(target, (!finished).then_some(body)))
    }

    pub(super) fn patch(
        &mut self,
        target: &Target,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<Object, Status> {
        let mut body = match self.get(target) {
            Ok(object) => tree(&object),
            Err(_) if kind == PatchKind::Apply => return self.create(target, patch.clone()),
            Err(status) => return Err(status),
        };
        match kind {
            PatchKind::Json => json_patch(&mut body, patch)?,
            // Lists are replaced: who needs the strategic merge of lists tests with the real server.
            _ => merge(&mut body, patch),
        }
        self.update(target, body)
    }

    pub(super) fn delete(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Option<Object>, Status> {
        let old = self.get(target)?;
        let other = options.uid.as_ref().is_some_and(|uid| **uid != *old.meta().uid);
        let newer = options.resource_version.is_some_and(|at| at != old.meta().resource_version);
        if other || newer {
            return Err(Status::conflict(&target.gvr, &target.name, "the precondition does not hold"));
        }
        let mut body = tree(&old);
        let bound = target.gvr.resource == "pods" && !body["spec"]["nodeName"].is_null();
        let grace = options.grace_period_seconds.unwrap_or(if bound { 30 } else { 0 });
        let finalizer = match options.propagation {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            push_finalizer(&mut body, finalizer);
        }
        if finalizers(&body) == 0 && (!bound || grace == 0) {
            self.commit(target, None);
            return Ok(None);
        }
        meta(&mut body).entry("deletionTimestamp").or_insert_with(now);
        meta(&mut body).insert("deletionGracePeriodSeconds".into(), grace.into());
        if same(&tree(&old), &body) {
            return Ok(Some(old));
        }
        Ok(Some(self.commit(target, Some(body))))
    }

    /// Stores a version (or none: the object goes) as the next revision. Returns it, or the last one.
    fn commit(&mut self, target: &Target, value: Option<Value>) -> Object {
        let revision = self.history.len() as u64 + 1;
        let key = key(target);
        let old = self.objects.remove(&key);
        let stays = value.is_some();
        let last = value.or_else(|| old.as_ref().map(tree)).unwrap_or_else(|| json!({}));
        let last = versioned(last, revision);
        if stays {
            self.objects.insert(key, last.clone());
        }
        self.history.push(Change { gvr: target.gvr.clone(), old, last: last.clone(), gone: !stays });
        last
    }

    fn uid(&mut self) -> String {
        self.names += 1;
        format!("uid-{}", self.names)
    }
}

/// The `scale` of a workload.
fn scale(object: &Object) -> Object {
    let whole = tree(object);
    let selector =
        LabelSelector::from_value(&whole["spec"]["selector"]).unwrap_or_else(|_| LabelSelector::nothing());
    let scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": whole["metadata"]["name"], "namespace": whole["metadata"]["namespace"],
            "uid": whole["metadata"]["uid"], "resourceVersion": whole["metadata"]["resourceVersion"]},
        "spec": {"replicas": whole["spec"]["replicas"]},
        "status": {"replicas": whole["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.to_string()},
    });
    Object::from_value(&scale).expect("an object with a map for metadata has a header")
}

fn key(target: &Target) -> Key {
    (target.gvr.clone(), target.namespace.clone(), target.name.clone())
}

fn tree(object: &Object) -> Value {
    object.value().expect("stored objects decode")
}

fn versioned(mut value: Value, revision: u64) -> Object {
    meta(&mut value).insert("resourceVersion".into(), revision.to_string().into());
    Object::from_value(&value).expect("an object with a map for metadata has a header")
}

fn now() -> Value {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// The metadata of an object, made a map when it is none.
fn meta(value: &mut Value) -> &mut Map {
    let meta = &mut value["metadata"];
    if !meta.is_object() {
        *meta = json!({});
    }
    meta.as_object_mut().expect("it was made an object")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value["metadata"][field].as_str().unwrap_or_default()
}

/// Finalizers of the object, those in a namespace's spec included.
fn finalizers(value: &Value) -> usize {
    let count = |part: &str| value[part]["finalizers"].as_array().map_or(0, Vec::len);
    count("metadata") + count("spec")
}

fn grace(value: &Value) -> i64 {
    value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0)
}

fn push_finalizer(value: &mut Value, finalizer: &str) {
    let list = meta(value).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut().filter(|list| !list.iter().any(|f| f == finalizer)) {
        list.push(finalizer.into());
    }
}

/// Whether two versions differ in nothing but their revision.
fn same(a: &Value, b: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        meta(&mut value).remove("resourceVersion");
        value
    };
    strip(a) == strip(b)
}

fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    let Value::Object(map) = value else { return };
    for (key, change) in patch {
        match change {
            Value::Null => drop(map.remove(key)),
            change => merge(map.entry(key.clone()).or_insert(Value::Null), change),
        }
    }
}

/// `test`, `add`, `replace` and `remove`, which is what controllers send.
fn json_patch(value: &mut Value, patch: &Value) -> Result<(), Status> {
    for step in patch.as_array().into_iter().flatten() {
        let path = step["path"].as_str().unwrap_or_default();
        let (parent, last) = path.rsplit_once('/').unwrap_or_default();
        if step["op"] == "test" {
            if value.pointer(path) != Some(&step["value"]) {
                return Err(Status::failure(422, "Invalid", format!("testing {path} failed")));
            }
            continue;
        }
        let last = last.replace("~1", "/").replace("~0", "~");
        match (value.pointer_mut(parent), step["op"].as_str()) {
            (Some(Value::Object(map)), Some("remove")) => drop(map.remove(&last)),
            (Some(Value::Object(map)), _) => drop(map.insert(last.into(), step["value"].clone())),
            (Some(Value::Array(list)), op) => json_patch_list(list, op, &last, &step["value"]),
            _ => return Err(Status::failure(422, "Invalid", format!("{path} does not exist"))),
        }
    }
    Ok(())
}

fn json_patch_list(list: &mut Vec<Value>, op: Option<&str>, place: &str, value: &Value) {
    let at = place.parse().unwrap_or(list.len()).min(list.len());
    match op {
        Some("remove") => drop(list.remove(at)),
        Some("replace") => list[at] = value.clone(),
        _ => list.insert(at, value.clone()),
    }
}
