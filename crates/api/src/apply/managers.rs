//! `metadata.managedFields`: who owns what, and since when.

use crate::Value;

use super::fields::{FieldSet, Node};

/// Entries of plain writes that are kept apart, at most; the oldest are merged beyond that.
const UPDATERS_MAX: usize = 10;
/// The manager that the oldest writes are merged into.
const ANCIENT: &str = "ancient-changes";

/// How an entry's manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339 in seconds.
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

/// All entries of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers(Vec<Entry>);

/// Who writes, as entries are told apart: an applier is the same in every version.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) manager: &'a str,
    pub(super) operation: Operation,
    pub(super) api_version: &'a str,
    pub(super) subresource: &'a str,
}

impl Identity<'_> {
    fn is(&self, entry: &Entry) -> bool {
        let version = self.operation == Operation::Apply || entry.api_version == self.api_version;
        version
            && entry.operation == self.operation
            && entry.manager == self.manager
            && entry.subresource == self.subresource
    }
}

impl Managers {
    /// Reads what this program stored with an object (`None`: nothing yet).
    pub(super) fn stored(object: Option<&Value>) -> Self {
        Self::trusted(object.and_then(super::managed_fields).cloned().unwrap_or_default())
    }

    /// Takes entries that this program stored; those that are none are dropped.
    pub(super) fn trusted(list: Vec<Value>) -> Self {
        let trusted = |fields| match fields {
            Value::String(text) => Some(FieldSet::trusted(text.into())),
            other => FieldSet::from_value(&other),
        };
        Self(list.into_iter().filter_map(|e| Entry::read(e, trusted)).collect())
    }

    /// Reads what a client sent; `None` if any entry is malformed.
    pub(super) fn sent(list: Vec<Value>) -> Option<Self> {
        let read = |entry| Entry::read(entry, |fields| FieldSet::from_value(&fields));
        list.into_iter().map(read).collect::<Option<_>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    /// Takes an identity's entry out.
    pub(super) fn take(&mut self, identity: Identity<'_>) -> Option<Entry> {
        let at = self.0.iter().position(|entry| identity.is(entry))?;
        Some(self.0.swap_remove(at))
    }

    /// Adds an entry; one that owns nothing is left out.
    pub(super) fn put(&mut self, entry: Entry) {
        if !entry.fields.is_empty() {
            self.0.push(entry);
        }
    }

    /// Drops entries that own nothing any more.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    /// Merges the oldest plain writers of a version into one, until there are few enough.
    pub(super) fn cap(&mut self) {
        let updaters = self.0.iter().filter(|e| e.operation == Operation::Update).count();
        if updaters <= UPDATERS_MAX {
            return;
        }
        let mut excess = updaters - UPDATERS_MAX;
        self.sort();
        let mut kept: Vec<Entry> = Vec::with_capacity(self.0.len());
        for mut entry in std::mem::take(&mut self.0) {
            let mergeable = excess > 0 && entry.operation == Operation::Update;
            let first = kept
                .iter()
                .position(|e| e.operation == Operation::Update && e.api_version == entry.api_version);
            match first.and_then(|at| kept.get_mut(at)).filter(|_| mergeable) {
                Some(bucket) => {
                    bucket.fields.union(&entry.fields);
                    bucket.manager = ANCIENT.into();
                    bucket.subresource = String::new();
                    bucket.time = entry.time.take();
                    excess -= 1;
                }
                None => kept.push(entry),
            }
        }
        self.0 = kept;
    }

    /// The stored form, in Kubernetes' order.
    pub(super) fn into_value(mut self) -> Value {
        self.sort();
        self.0.into_iter().map(Entry::into_value).collect()
    }

    fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| (e.operation, e.time.clone());
            key(a).cmp(&key(b)).then_with(|| {
                (&a.manager, &a.api_version, &a.subresource).cmp(&(
                    &b.manager,
                    &b.api_version,
                    &b.subresource,
                ))
            })
        });
    }
}

impl Entry {
    fn read(value: Value, fields: impl Fn(Value) -> Option<FieldSet>) -> Option<Self> {
        let Value::Object(mut map) = value else { return None };
        let mut text = |name: &str| match map.remove(name) {
            Some(Value::String(text)) => String::from(text),
            _ => String::new(),
        };
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let (manager, api_version, subresource) = (text("manager"), text("apiVersion"), text("subresource"));
        let time = Some(text("time")).filter(|time| !time.is_empty());
        let fields = fields(map.remove("fieldsV1").unwrap_or_else(|| Value::Object(Node::new())))?;
        Some(Self { manager, operation, api_version, subresource, time, fields })
    }

    fn into_value(self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut map = Node::new();
        map.insert("apiVersion".into(), self.api_version.into());
        map.insert("fieldsType".into(), "FieldsV1".into());
        map.insert("fieldsV1".into(), self.fields.into_text().into());
        map.insert("manager".into(), self.manager.into());
        map.insert("operation".into(), operation.into());
        if !self.subresource.is_empty() {
            map.insert("subresource".into(), self.subresource.into());
        }
        if let Some(time) = self.time {
            map.insert("time".into(), time.into());
        }
        Value::Object(map)
    }

    /// How conflicts name this manager.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}
