//! Server-side apply and the ownership of fields (`metadata.managedFields`).
//!
//! - [`apply`] merges a configuration into the live object, removes what its manager no longer applies and no one
//!   else owns, and refuses to overwrite what another manager owns, unless forced.
//! - [`record_update`] keeps the books for every other write: who wrote owns what it wrote, and the others lose it.
//! - Both are pure functions of (schema, live, new, time). The cost follows what changed: equal parts of two objects
//!   are walked once without allocation, and managers' sets stay the texts that they are stored as.
//! - In the trees given and returned, an entry's `fieldsV1` is such a text ([`folded`]); given, it may be an object, too.
//! - Paths of a manager that used another version of the kind are taken as they are: versions of the built-in kinds
//!   name their fields alike, but for `autoscaling`, whose old paths then go unowned at worst.

mod compare;
mod fields;
pub mod folded;
mod last_applied;
mod managers;
mod merge;
mod overlay;
mod present;
mod shape;
#[cfg(test)]
mod tests;
mod text;

use crate::{Map, Value};
use jiff::Timestamp;

use crate::schema::Resource;
use crate::status::{Cause, Details, Status};

pub use fields::FieldSet;
pub use managers::Operation;
pub use overlay::overlay;

use compare::{Changes, compare};
use fields::Node;
use managers::{Entry, Identity, Managers};
use present::named_fields;
use shape::Shape;

/// Who writes what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The resource, in the version that the request uses.
    pub resource: &'a Resource,
    /// Subresource written through, as `status` or `scale`; empty for the object itself.
    pub subresource: &'a str,
    /// `fieldManager`, or what stands for it (the user agent up to its first `/`).
    pub manager: &'a str,
    /// Time of the write.
    pub now: Timestamp,
}

/// One field that an applied configuration would take from another manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it, as `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// The field, as `.spec.replicas`.
    pub path: String,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers own these fields with other values (409); sorted by manager.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration cannot be applied (400).
    #[error("{0}")]
    BadRequest(String),
}

impl ApplyError {
    /// The answer to the client.
    pub fn status(&self) -> Status {
        let Self::Conflicts(conflicts) = self else { return Status::bad_request(self.to_string()) };
        let cause = |conflict: &Conflict| Cause {
            field: conflict.path.clone(),
            message: format!("conflict with {}", conflict.manager),
            reason: "FieldManagerConflict".into(),
        };
        let details = Details { causes: conflicts.iter().map(cause).collect(), ..Details::default() };
        Status { details: Some(details), ..Status::failure(409, "Conflict", self.to_string()) }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [Conflict { manager, path }] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut lines = Vec::new();
    for group in conflicts.chunk_by(|a, b| a.manager == b.manager) {
        lines.extend(group.first().map(|c| format!("conflicts with {}:", c.manager)));
        lines.extend(group.iter().map(|c| format!("- {}", c.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Merges an applied configuration into the live object (`None`: create it) and keeps `managedFields`.
/// The configuration is canonical (see `decode::structure`) and not defaulted; the result is to be defaulted.
pub fn apply(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    check_config(write, config)?;
    let outcome = match try_apply(write, live, config, force) {
        Err(ApplyError::Conflicts(conflicts)) if write.manager == last_applied::MANAGER => {
            let allowed = live.map(|live| last_applied::owned(write, live)).unwrap_or_default();
            let left: Vec<Conflict> = conflicts.into_iter().filter(|c| !allowed.contains(&c.path)).collect();
            match left.is_empty() {
                true => try_apply(write, live, config, true),
                false => Err(ApplyError::Conflicts(left)),
            }
        }
        other => other,
    };
    outcome.map(|mut object| {
        if write.manager == last_applied::MANAGER {
            last_applied::refresh(&mut object, config);
        }
        object
    })
}

/// Keeps `managedFields` of `new`, which a create (`live` is `None`), update or patch is about to store.
/// `new` may carry entries that the client sent; an empty list or `[{}]` asks to forget all ownership.
pub fn record_update(write: &Write<'_>, live: Option<&Value>, new: &mut Value) {
    let sent = take_managed_fields(new);
    let Some(mut managers) = owners_before_update(write, live, sent) else { return };
    let changes = compare(write.root(), live.unwrap_or(&Value::Null), new, write.ignored());
    record(write, &mut managers, &changes);
    managers.cap();
    put_managed_fields(new, managers);
}

/// Who owns what before a plain write; `None` if no one does and the write is not to begin it.
fn owners_before_update(
    write: &Write<'_>,
    live: Option<&Value>,
    sent: Option<Vec<Value>>,
) -> Option<Managers> {
    let stored = live.and_then(managed_fields);
    let managers = match sent {
        // Mostly a client sends back what it read: taken over without a copy or a check.
        Some(list) if stored == Some(&list) => Managers::trusted(&list),
        Some(list) if write.subresource.is_empty() && is_reset(&list) => Managers::default(),
        Some(list) if write.subresource.is_empty() => match Managers::sent(&list) {
            Some(sent) if !sent.is_empty() => sent,
            _ => Managers::stored(live),
        },
        _ => Managers::stored(live),
    };
    // Ownership that an existing object does not have is not begun by a mere update.
    (live.is_none() || !managers.is_empty()).then_some(managers)
}

impl<'a> Write<'a> {
    fn root(&self) -> Shape<'a> {
        Shape::Struct(&self.resource.schema, self.resource.root())
    }

    /// Top-level fields that the endpoint resets: what is written there is no one's.
    fn ignored(&self) -> &'static [&'static str] {
        match self.subresource {
            "status" => &["spec"],
            "" if self.resource.subresource("status").is_some() => &["status"],
            _ => &[],
        }
    }

    fn identity<'i>(&'i self, operation: Operation, api_version: &'i str) -> Identity<'i> {
        Identity { manager: self.manager, operation, api_version, subresource: self.subresource }
    }

    fn entry(&self, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: self.manager.into(),
            operation,
            api_version: self.resource.gvk.api_version().into(),
            subresource: self.subresource.into(),
            time: Some(timestamp(self.now).into()),
            fields,
            stored: None,
        }
    }
}

/// The writer gets what it wrote, everyone else loses it, and all lose what was removed.
fn record(write: &Write<'_>, managers: &mut Managers, changes: &Changes) {
    let api_version = write.resource.gvk.api_version();
    let own = managers.take(write.identity(Operation::Update, &api_version));
    managers.lose(changes);
    let own = own.map(|mut own| {
        own.lose(&changes.removed);
        own
    });
    match own {
        Some(own) if changes.written.is_empty() => managers.put(own),
        own => {
            let mut fields = own.map(|entry| entry.fields).unwrap_or_default();
            fields.union(&changes.written);
            managers.put(write.entry(Operation::Update, fields));
        }
    }
}

fn check_config(write: &Write<'_>, config: &Value) -> Result<(), ApplyError> {
    let refuse = |text: String| Err(ApplyError::BadRequest(text));
    let version = config.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let expected = write.resource.gvk.api_version();
    if version != expected {
        let text = "Incorrect version specified in apply patch. Specified patch version:";
        return refuse(format!("{text} {version}, expected: {expected}"));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|v| !v.is_null()) {
        return refuse("metadata.managedFields must be nil".into());
    }
    match merge::duplicate(write.root(), config) {
        Some(at) => refuse(format!("failed to create typed patch object ({}): {at}", write.resource.gvk)),
        None => Ok(()),
    }
}

fn try_apply(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    let mut managers = owners_before_apply(write, live);
    let api_version = write.resource.gvk.api_version();
    let last = managers.take(write.identity(Operation::Apply, &api_version));
    let fields = named_fields(write.root(), config, write.ignored());

    let mut object = live.cloned().unwrap_or_else(|| Value::Object(crate::Map::new()));
    take_managed_fields(&mut object);
    merge::merge(write.root(), &mut object, config);
    if let Some(last) = &last {
        withdraw(write, &mut object, last, &managers, &fields);
    }
    let changes = compare(write.root(), live.unwrap_or(&Value::Null), &object, write.ignored());
    if !force {
        refuse_conflicts(&managers, &changes.written)?;
    }
    managers.lose(&changes);
    let unchanged = changes.written.is_empty() && changes.removed.is_empty();
    let mut entry = write.entry(Operation::Apply, fields);
    if let Some(last) = last.filter(|last| unchanged && last.fields == entry.fields) {
        entry.time = last.time;
    }
    managers.put(entry);
    put_managed_fields(&mut object, managers);
    Ok(object)
}

/// Takes from the object what the manager applied last time and neither it nor anyone else owns now.
fn withdraw(write: &Write<'_>, object: &mut Value, last: &Entry, managers: &Managers, fields: &FieldSet) {
    if last.fields == *fields {
        return;
    }
    // The identity in `metadata` is no one's, and never goes.
    let identity = Node::from_iter([("f:metadata".to_owned(), Value::Object(Node::new()))]);
    let owned: Vec<Node> =
        managers.iter().map(|e| e.fields.to_node()).chain([fields.to_node(), identity]).collect();
    let owned: Vec<&Node> = owned.iter().collect();
    merge::prune(write.root(), object, &last.fields.to_node(), &owned);
}

/// The live object's owners. What an object had before ownership was kept belongs to `before-first-apply`.
fn owners_before_apply(write: &Write<'_>, live: Option<&Value>) -> Managers {
    let mut managers = Managers::stored(live);
    if let (true, Some(live)) = (managers.is_empty(), live) {
        let before = Write { manager: "before-first-apply", ..*write };
        let changes = compare(write.root(), &Value::Null, live, write.ignored());
        record(&before, &mut managers, &changes);
    }
    managers
}

fn refuse_conflicts(managers: &Managers, written: &FieldSet) -> Result<(), ApplyError> {
    let mut conflicts: Vec<Conflict> = Vec::new();
    for entry in managers.iter().filter(|entry| entry.fields.meets(written)) {
        let taken = entry.fields.intersection(written);
        let manager = || entry.describe();
        conflicts.extend(taken.paths().into_iter().map(|path| Conflict { manager: manager(), path }));
    }
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    match conflicts.is_empty() {
        true => Ok(()),
        false => Err(ApplyError::Conflicts(conflicts)),
    }
}

fn managed_fields(object: &Value) -> Option<&Vec<Value>> {
    object.get("metadata")?.get("managedFields")?.as_array()
}

fn take_managed_fields(object: &mut Value) -> Option<Vec<Value>> {
    match object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")? {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn put_managed_fields(object: &mut Value, managers: Managers) {
    let (false, Value::Object(fields)) = (managers.is_empty(), object) else { return };
    // A configuration need not name what its path names.
    let metadata = fields.entry("metadata").or_insert_with(|| Map::new().into());
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".into(), managers.into_value());
    }
}

fn is_reset(list: &[Value]) -> bool {
    match list {
        [] => true,
        [Value::Object(only)] => only.is_empty(),
        _ => false,
    }
}

/// RFC 3339 in whole seconds.
fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
