//! `metadata.managedFields`: who owns what, and since when.

use crate::{Text, Value};

use super::compare::Changes;
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
    pub(super) manager: Text,
    pub(super) operation: Operation,
    pub(super) api_version: Text,
    pub(super) subresource: Text,
    /// RFC 3339 in seconds.
    pub(super) time: Option<Text>,
    pub(super) fields: FieldSet,
    /// The form in which it is stored, as long as it is not changed.
    pub(super) stored: Option<Value>,
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
        Self::trusted(object.and_then(super::managed_fields).map_or(&[], Vec::as_slice))
    }

    /// Takes entries that this program stored; those that are none are dropped.
    pub(super) fn trusted(list: &[Value]) -> Self {
        let trusted = |fields: &Value| match fields {
            Value::String(text) => Some(FieldSet::trusted(text.as_str().to_owned())),
            other => FieldSet::from_value(other),
        };
        let entry = |value| Some(Entry { stored: Some(Value::clone(value)), ..Entry::read(value, trusted)? });
        Self(list.iter().filter_map(entry).collect())
    }

    /// Reads what a client sent; `None` if any entry is malformed.
    pub(super) fn sent(list: &[Value]) -> Option<Self> {
        list.iter().map(|entry| Entry::read(entry, FieldSet::from_value)).collect::<Option<_>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Takes what a write changed from all; who owns nothing any more goes.
    pub(super) fn lose(&mut self, changes: &Changes) {
        for entry in &mut self.0 {
            entry.lose(&changes.written);
            entry.lose(&changes.removed);
        }
        self.0.retain(|entry| !entry.fields.is_empty());
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
                    bucket.stored = None;
                    bucket.fields.union(&entry.fields);
                    bucket.manager = ANCIENT.into();
                    bucket.subresource = Text::default();
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
        fn key(e: &Entry) -> (Operation, Option<&str>, &str, &str, &str) {
            (e.operation, e.time.as_deref(), &e.manager, &e.api_version, &e.subresource)
        }
        self.0.sort_by(|a, b| key(a).cmp(&key(b)));
    }
}

impl Entry {
    fn read(value: &Value, fields: impl Fn(&Value) -> Option<FieldSet>) -> Option<Self> {
        static NONE: Value = Value::Object(Node::new());
        let map = value.as_object()?;
        let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let time = Some(text("time")).filter(|time| !time.is_empty()).map(Text::new);
        Some(Self {
            manager: text("manager").into(),
            operation,
            api_version: text("apiVersion").into(),
            subresource: text("subresource").into(),
            time,
            fields: fields(map.get("fieldsV1").unwrap_or(&NONE))?,
            stored: None,
        })
    }

    /// Takes the paths of a set from it.
    pub(super) fn lose(&mut self, fields: &FieldSet) {
        if self.fields.meets(fields) {
            self.fields.subtract(fields);
            self.stored = None;
        }
    }

    fn into_value(self) -> Value {
        if let Some(stored) = self.stored {
            return stored;
        }
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let always = [
            ("apiVersion", self.api_version.into()),
            ("fieldsType", "FieldsV1".into()),
            ("fieldsV1", self.fields.into_text().into()),
            ("manager", self.manager.into()),
            ("operation", operation.into()),
        ];
        let subresource = Some(self.subresource).filter(|name| !name.is_empty());
        let subresource = subresource.map(|name| ("subresource", Value::from(name)));
        let time = self.time.map(|time| ("time", Value::from(time)));
        always.into_iter().chain(subresource).chain(time).collect()
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
