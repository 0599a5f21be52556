//! A definition of custom resources that a case makes, uses and leaves behind for its end.

use anyhow::Result;
use serde_json::{Value, json};

use crate::harness::Namespace;
use crate::objects::{At, CUSTOM_RESOURCE_DEFINITION, Objects};

/// A definition, in a group that is the case's own. It goes when it is dropped.
pub struct Definition<'a> {
    pub objects: &'a Objects,
    /// Where its objects are made.
    namespace: String,
    /// Its group.
    pub group: String,
    plural: &'static str,
    kind: &'static str,
}

impl<'a> Definition<'a> {
    /// One that does not exist yet; `word` tells a case's groups apart.
    pub fn new(ns: &Namespace<'_>, objects: &'a Objects, word: &str, kind: &'static str) -> Self {
        let plural = match kind {
            "Gadget" => "gadgets",
            _ => "widgets",
        };
        let group = format!("{word}.{}.tiphys.example", ns.name);
        Self { objects, namespace: ns.name.clone(), group, plural, kind }
    }

    /// Its object.
    pub fn at(&self) -> At<'a> {
        self.objects.at(CUSTOM_RESOURCE_DEFINITION, &format!("{}.{}", self.plural, self.group))
    }

    /// The object, with some versions.
    pub fn body(&self, versions: &Value) -> Value {
        json!({"spec": {
            "group": self.group, "scope": "Namespaced", "versions": versions,
            "names": {"plural": self.plural, "kind": self.kind},
        }})
    }

    /// Makes it and waits until it is served.
    pub fn establish(&self, versions: &Value) -> Result<Value> {
        self.at().create(self.body(versions))?;
        self.established()
    }

    /// Waits until it is served.
    pub fn established(&self) -> Result<Value> {
        self.at().until("it is established", |definition| {
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
        })
    }

    /// The path of its objects in a version.
    pub fn path(&self, version: &str) -> String {
        let Self { group, namespace, plural, .. } = self;
        format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}")
    }

    /// Makes one of its objects.
    pub fn make(&self, version: &str, name: &str, more: Value) -> Result<Value> {
        self.objects.request("POST", &self.path(version), &self.object(version, name, more))
    }

    /// One of its objects, not made yet.
    pub fn object(&self, version: &str, name: &str, more: Value) -> Value {
        let mut object = more;
        object["apiVersion"] = format!("{}/{version}", self.group).into();
        object["kind"] = self.kind.into();
        object["metadata"]["name"] = name.into();
        object
    }

    /// Reads one of its objects.
    pub fn read(&self, version: &str, name: &str) -> Result<Value> {
        self.objects.get(&format!("{}/{name}", self.path(version)))
    }

    /// What OpenAPI calls the kind in a version.
    pub fn type_name(&self, version: &str) -> String {
        let group: Vec<&str> = self.group.split('.').rev().collect();
        format!("{}.{version}.{}", group.join("."), self.kind)
    }

    /// `kind.version.group`, as kubectl's arguments name it.
    pub fn resource(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

impl Drop for Definition<'_> {
    fn drop(&mut self) {
        // The case may have deleted it.
        drop(self.at().delete(&Value::Null));
    }
}

/// A version with a schema.
pub fn version(name: &str, storage: bool, schema: &Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

/// A schema that keeps whatever comes.
pub fn free() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
