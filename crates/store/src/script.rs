//! The general transaction, with all that etcd's has: several kinds of conditions, two branches, reads among the
//! changes, scripts within scripts.
//!
//! The API server needs none of it: its writes are a [`Txn`](crate::Txn), which is cheaper to decide. A script is what
//! etcd's gRPC API is answered from. Its steps see each other: a read after a put finds what was put. All of its changes
//! carry one revision, and either all are made or none.

use bytes::Bytes;

use crate::{Key, KeyValue, LeaseId, Range, RangeResult, Revision, Span};

/// One of two lists of steps, chosen by conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// All must hold for `then`.
    pub conditions: Vec<Condition>,
    /// Done, in this order, if all conditions hold.
    pub then: Vec<Step>,
    /// Done, in this order, if one does not.
    pub otherwise: Vec<Step>,
}

impl Script {
    /// One unconditional step.
    pub fn new(step: Step) -> Self {
        Self { then: vec![step], ..Self::default() }
    }
}

/// What must hold for each key of a span. A key that does not exist counts as one with all numbers 0, and has no
/// value, so that no condition on its value holds. In a span without keys, one such key is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The keys looked at.
    pub span: Span,
    /// How what is found must stand to `to`.
    pub is: Is,
    /// What is compared, and with what.
    pub to: Operand,
}

impl Condition {
    /// About one key.
    pub fn key(key: impl Into<Key>, is: Is, to: Operand) -> Self {
        Self { span: Span::key(key), is, to }
    }
}

/// How two values stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Is {
    Equal,
    NotEqual,
    Greater,
    Less,
}

impl Is {
    /// Whether this ordering of (found, operand) is the one asked for.
    pub fn holds(self, found: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::NotEqual => found.is_ne(),
            Self::Greater => found.is_gt(),
            Self::Less => found.is_lt(),
        }
    }
}

/// One of a key's properties, with what it is compared to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// How often the key was written since it exists.
    Version(u64),
    /// The revision that made it exist.
    CreateRevision(Revision),
    /// The revision that wrote it last.
    ModRevision(Revision),
    /// Its lease.
    Lease(LeaseId),
    /// Its value, as bytes.
    Value(Bytes),
}

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads. At the present (revision 0), what the script has changed so far is seen.
    Range(Range),
    /// Writes a key.
    Put(Put),
    /// Deletes the keys of a span.
    Delete {
        /// Which.
        span: Span,
        /// Tell what was deleted.
        previous: bool,
    },
    /// Does another script.
    Script(Script),
}

/// Writes a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Where. A script may write a key once, and may not both write and delete it.
    pub key: Key,
    /// What; none = the value it has ([`Error::KeyNotFound`](crate::Error::KeyNotFound) if there is no such key).
    pub value: Option<Bytes>,
    /// The lease it is attached to from now on, 0 = none; none = the one it has, likewise.
    pub lease: Option<LeaseId>,
    /// Tell what was there before.
    pub previous: bool,
}

impl Put {
    /// A value that stays until deleted.
    pub fn new(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()), lease: Some(0), previous: false }
    }
}

/// What a script did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptResult {
    /// The store's revision after it: that of its changes, if it made any.
    pub revision: Revision,
    /// Whether all conditions held.
    pub held: bool,
    /// What the steps of the branch taken did, one for one.
    pub steps: Vec<Done>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// What was read.
    Range(RangeResult),
    /// It was written.
    Put {
        /// What was there before, if asked for.
        previous: Option<KeyValue>,
    },
    /// They were deleted.
    Delete {
        /// How many.
        deleted: u64,
        /// What they were, in order of key, if asked for.
        previous: Vec<KeyValue>,
    },
    /// What the inner script did; its revision is the outer one's.
    Script(ScriptResult),
}
