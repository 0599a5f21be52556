//! An object as the program passes it round: canonical JSON bytes and the header read from them once.
//!
//! - The bytes are complete: `apiVersion`, `kind` and `metadata.resourceVersion` included, keys sorted, no spaces.
//!   Serving an object copies them; nothing is parsed or encoded again.
//! - The header holds what caches, selectors, the garbage collector and queues ask for without a parse.
//! - Its protobuf is made when somebody first asks for it and kept, until there is a newer version: who reads protobuf
//!   reads the same objects often.
//! - Cloning is a reference count. An object never changes: a new version is a new `Object`.
//!
//! Measured: a 2.5 KB pod is 2.5 KB as bytes, 26 KB as a typed struct, 36 KB as a tree. So bytes live long.

use std::sync::Arc;

use crate::Value;
use crate::apply::folded;
use crate::protobuf::{self, Sealed};
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

/// One version of one object. Cheap to clone, immutable.
#[derive(Clone, Debug)]
pub struct Object(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meta: Meta,
    json: Bytes,
    /// Where in the JSON its version stands, after the opening quote; 0 = not known.
    version_at: u32,
    sealed: Mutex<Kept>,
}

/// An object's protobuf.
#[derive(Debug, Default)]
enum Kept {
    /// Nobody has asked for it yet.
    #[default]
    Unasked,
    /// Kept for the next who asks.
    Sealed(Box<Sealed>),
    /// Not kept: there is a newer version.
    Outdated,
}

/// The header: what is asked of an object without parsing it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// Name, unique in its namespace and resource.
    pub name: Box<str>,
    /// Identity over time; empty only in objects that a client is about to create.
    pub uid: Box<str>,
    /// The store's revision of the last change; 0 when not stored yet.
    pub resource_version: u64,
    /// Counts changes of the desired state.
    pub generation: i64,
    /// Labels in key order.
    pub labels: Labels,
    /// `metadata.ownerReferences`.
    pub owners: Box<[OwnerRef]>,
    /// `metadata.finalizers`, in order.
    pub finalizers: Box<[Box<str>]>,
    /// When the server created it.
    pub created: Option<Timestamp>,
    /// Set once deletion was asked for.
    pub deleted: Option<Timestamp>,
    /// Values of the resource's selectable fields beyond name and namespace, in the order of
    /// `schema::Resource::field_labels`. Filled by the API server's cache; empty elsewhere.
    pub fields: Box<[Box<str>]>,
}

/// Label pairs in key order; few per object, so a sorted slice beats a map. The versions of an object share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        self.0.get(at).map(|(_, v)| v.as_ref())
    }

    /// All pairs in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Box<str>, Box<str>)> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        if pairs.is_empty() {
            return Self::default();
        }
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Self(pairs.into())
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRef {
    /// `apiVersion` of the owner.
    pub api_version: Box<str>,
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner, in the same namespace or cluster-scoped.
    pub name: Box<str>,
    /// Identity of the owner; the name alone never identifies.
    pub uid: Box<str>,
    /// Whether this owner manages the object.
    #[serde(default)]
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for the object.
    #[serde(default)]
    pub block_owner_deletion: bool,
}

impl OwnerRef {
    fn read(owner: &Value) -> Self {
        let text = |name: &str| owner[name].as_str().unwrap_or_default().into();
        let is = |name: &str| owner[name].as_bool().unwrap_or(false);
        Self {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: is("controller"),
            block_owner_deletion: is("blockOwnerDeletion"),
        }
    }
}

impl Object {
    /// An object from its canonical bytes and a header that was read from them.
    pub fn new(meta: Meta, json: Bytes) -> Self {
        Self::versioned(meta, json, None)
    }

    /// The same by who knows where in the bytes its version stands (after the opening quote).
    pub fn versioned(meta: Meta, json: Bytes, version_at: Option<usize>) -> Self {
        let version_at = version_at.and_then(|at| u32::try_from(at).ok()).unwrap_or_default();
        Self(Arc::new(Inner { meta, json, version_at, sealed: Mutex::default() }))
    }

    /// Reads the header from canonical (or any) JSON bytes of one object.
    pub fn parse(json: Bytes) -> Result<Self, serde_json::Error> {
        let meta = Meta::parse(&json)?;
        Ok(Self::new(meta, json))
    }

    /// Encodes a tree canonically and takes its header.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        Self::parse(serde_json::to_vec(value)?.into())
    }

    /// The header.
    pub fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// The canonical JSON bytes.
    pub fn json(&self) -> &Bytes {
        &self.0.json
    }

    /// Where in the JSON its version stands, if that is known.
    pub fn version_at(&self) -> Option<usize> {
        (self.0.version_at > 0).then_some(self.0.version_at as usize)
    }

    /// A fresh tree of the whole object, for a change or a read of many fields.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        Value::from_json(&self.0.json)
    }

    /// Decodes into a type that names just the fields it needs.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0.json)
    }

    /// The object in protobuf; an error for kinds that have none.
    pub fn sealed(&self) -> Result<Sealed, protobuf::Error> {
        if let Kept::Sealed(sealed) = &*self.0.sealed.lock() {
            return Ok(Sealed::clone(sealed));
        }
        // Field sets are JSON's text in protobuf, too.
        let tree = folded::read(&self.0.json).map_err(|_| protobuf::Error::Malformed)?;
        let sealed = Sealed::of(&tree)?;
        self.keep(&sealed);
        Ok(sealed)
    }

    /// Keeps the object's protobuf, made elsewhere, for who asks for it.
    pub fn keep(&self, sealed: &Sealed) {
        let mut kept = self.0.sealed.lock();
        if matches!(*kept, Kept::Unasked) {
            *kept = Kept::Sealed(Box::new(sealed.clone()));
        }
    }

    /// Keeps nothing but what it is made of from now on: there is a newer version, and this one is only part of the past.
    pub fn outdate(&self) {
        *self.0.sealed.lock() = Kept::Outdated;
    }

    /// Whether both are the very same version in memory (not merely equal).
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Meta {
    /// Reads the header out of one object's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json).map(Self::of)
    }

    /// Reads the header out of an object's tree, which fits its kind. What is as it was in the version before is shared
    /// with that one's header.
    pub fn read(object: &Value, before: Option<(&Value, &Meta)>) -> Self {
        let meta = &object["metadata"];
        let text = |name: &str| meta[name].as_str().unwrap_or_default();
        let time = |name: &str| meta[name].as_str().and_then(|time| time.parse().ok());
        let list = |name: &str| meta[name].as_array().map_or(&[][..], Vec::as_slice);
        let labels = || {
            let pairs = meta["labels"].as_object().into_iter().flatten();
            pairs.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect()
        };
        let same = before.filter(|(old, _)| old["metadata"]["labels"] == meta["labels"]);
        Self {
            namespace: text("namespace").into(),
            name: text("name").into(),
            uid: text("uid").into(),
            resource_version: text("resourceVersion").parse().unwrap_or(0),
            generation: meta["generation"].as_i64().unwrap_or(0),
            labels: same.map_or_else(labels, |(_, old)| old.labels.clone()),
            owners: list("ownerReferences").iter().map(OwnerRef::read).collect(),
            finalizers: list("finalizers").iter().filter_map(|name| name.as_str().map(Into::into)).collect(),
            created: time("creationTimestamp"),
            deleted: time("deletionTimestamp"),
            fields: Box::default(),
        }
    }

    fn of(Envelope { metadata: m }: Envelope) -> Self {
        Self {
            namespace: m.namespace,
            name: m.name,
            uid: m.uid,
            // Another server's versions may be opaque; ours and etcd's are numbers.
            resource_version: m.resource_version.parse().unwrap_or(0),
            generation: m.generation,
            labels: m.labels.unwrap_or_default().into_iter().collect(),
            owners: m.owner_references.unwrap_or_default(),
            finalizers: m.finalizers.unwrap_or_default(),
            created: m.creation_timestamp,
            deleted: m.deletion_timestamp,
            fields: Box::default(),
        }
    }

    /// The owner that manages this object, if any.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// `namespace/name`, or `name` alone: how messages and queues name an object.
    pub fn key(&self) -> String {
        match self.namespace.as_ref() {
            "" => self.name.to_string(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    metadata: RawMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: i64,
    labels: Option<Vec2Map>,
    owner_references: Option<Box<[OwnerRef]>>,
    finalizers: Option<Box<[Box<str>]>>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
}

type Vec2Map = std::collections::BTreeMap<Box<str>, Box<str>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_from_the_bytes() {
        let json = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-11-22T10:00:00Z",
            "labels":{"b":"2","a":"1"},"name":"p","namespace":"n","ownerReferences":[{"apiVersion":"apps/v1",
            "kind":"ReplicaSet","name":"r","uid":"u2","controller":true}],"resourceVersion":"42","uid":"u1"}}"#;
        let object = Object::parse(Bytes::from_static(json)).unwrap();
        let meta = object.meta();
        assert_eq!((meta.key().as_str(), meta.resource_version), ("n/p", 42));
        assert_eq!(meta.labels.get("b"), Some("2"));
        assert_eq!(meta.controller().map(|o| o.uid.as_ref()), Some("u2"));
        assert!(meta.created.is_some() && meta.deleted.is_none());
        let tree = object.value().unwrap();
        assert_eq!(Meta::read(&tree, None), *meta);
        let later = Meta::read(&tree, Some((&tree, meta)));
        assert!(later == *meta && Arc::ptr_eq(&later.labels.0, &meta.labels.0));
    }

    #[test]
    fn an_old_version_keeps_no_second_form() {
        let json = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let object = Object::parse(Bytes::from_static(json)).unwrap();
        let body = |object: &Object| object.sealed().unwrap().body().clone();
        let first = body(&object);
        assert!(first.as_ptr() == body(&object).as_ptr(), "kept");
        object.outdate();
        assert!(first == body(&object) && body(&object).is_unique(), "made for who asks");
    }

    #[test]
    fn the_kept_form_is_that_of_the_tree() {
        let json = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"managedFields":[{"fieldsV1":{"f:data":{".":{},"f:a\"":{}}}}],"name":"a"}}"#;
        let object = Object::parse(Bytes::from_static(json)).unwrap();
        let tree = object.value().unwrap();
        assert_eq!(object.sealed().unwrap().body(), &protobuf::encode(&tree).unwrap());
        assert_eq!(protobuf::open(object.sealed().unwrap().body()).unwrap(), tree);
    }

    #[test]
    fn what_is_made_elsewhere_is_kept() {
        let json = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let [one, other] = [(); 2].map(|()| Object::parse(Bytes::from_static(json)).unwrap());
        one.keep(&other.sealed().unwrap());
        assert_eq!(one.sealed().unwrap().body().as_ptr(), other.sealed().unwrap().body().as_ptr());
    }

    #[test]
    fn an_object_without_metadata_has_an_empty_header() {
        assert_eq!(Meta::parse(b"{}").unwrap(), Meta::default());
        assert!(Meta::parse(b"[1]").is_err());
    }
}
