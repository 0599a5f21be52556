//! What an evaluation costs, and how much it may.
//!
//! The units are those of Kubernetes: one for reading a name or a field, ten for making a list, thirty for a map, a
//! tenth for each character that is looked at. Where Kubernetes charges nothing for work that a value's size drives,
//! as for putting two long lists together, this does charge ([`COPIED_FREE`]).

mod estimate;
mod range;

use std::cell::Cell;

pub use estimate::estimate;
pub use range::Range;

use crate::error::EvalError;
use crate::value::{Opaque, Value};

/// The most that one evaluation may cost in Kubernetes.
pub const PER_CALL: u64 = 1_000_000;
/// The most that all rules for one object may cost together.
pub const PER_OBJECT: u64 = 10_000_000;
/// The most that all conditions of a webhook or policy may cost together.
pub const MATCH_CONDITIONS: u64 = PER_CALL / 4 * 10;
/// The most that a rule of a custom resource may cost by its estimate.
pub const ESTIMATED_RULE: u64 = 10_000_000;
/// The most that all rules of a custom resource may cost by their estimates.
pub const ESTIMATED_CRD: u64 = 100_000_000;

/// Reading a name or a field.
pub const READ: u64 = 1;
/// Making a list.
pub const LIST: u64 = 10;
/// Making a map.
pub const MAP: u64 = 30;
/// Making an object.
pub const STRUCT: u64 = 40;
/// A character that is looked at.
pub const CHARACTER: f64 = 0.1;
/// A character of a pattern.
pub const PATTERN: f64 = 0.25;
/// Items of a list that are copied for nothing.
const COPIED_FREE: u64 = 1000;
/// A question to the authorizer: an expression may ask two.
pub const AUTHORIZATION: u64 = 350_000;

/// What an evaluation has spent of what it may.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    spent: Cell<u64>,
}

impl Budget {
    /// So much may be spent.
    pub fn new(limit: u64) -> Self {
        Self { limit, spent: Cell::new(0) }
    }

    /// What was spent.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// Spends; an error once that is too much.
    pub fn charge(&self, cost: u64) -> Result<(), EvalError> {
        self.spent.set(self.spent.get().saturating_add(cost));
        match self.spent.get() > self.limit {
            true => Err(EvalError::CostLimit),
            false => Ok(()),
        }
    }

    /// Gives back.
    pub fn refund(&self, cost: u64) {
        self.spent.set(self.spent.get().saturating_sub(cost));
    }
}

/// What so many characters cost.
fn characters(count: u64, factor: f64) -> u64 {
    (count as f64 * factor).ceil() as u64
}

fn pattern(text: u64, pattern: u64) -> u64 {
    characters(text.saturating_add(1), CHARACTER).saturating_mul(characters(pattern, PATTERN))
}

/// What a call of a function cost.
pub fn call(name: &str, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |at: usize| args.get(at).map_or(0, Value::size);
    match name {
        "check" => AUTHORIZATION,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url" | "isURL" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR"
        | "quantity" | "isQuantity" | "semver" | "isSemver" => characters(size(0), CHARACTER),
        "ip" if matches!(args.first(), Some(Value::String(_))) => characters(size(0), CHARACTER),
        "validate" => characters(size(1), CHARACTER),
        "ip.isCanonical" | "replace" | "split" => characters(size(0), 2.0 * CHARACTER),
        "join" => characters(result.size(), 2.0 * CHARACTER),
        "matches" | "find" | "findAll" => pattern(size(0), size(1)),
        "contains" => characters(size(0), CHARACTER).saturating_mul(characters(size(1), CHARACTER)),
        "containsIP" | "containsCIDR" => containment(name, args),
        "startsWith" | "endsWith" | "strings.quote" | "format" | "jsonpatch.escapeKey" => {
            characters(size(0), CHARACTER)
        }
        "bytes" | "string" if is_text(args.first()) => characters(size(0), CHARACTER),
        "@in" => match args.get(1) {
            Some(Value::List(list)) => list.len() as u64,
            _ => 1,
        },
        "sets.contains" | "sets.intersects" | "sets.equivalent" => size(0).saturating_mul(size(1)).max(1),
        "_==_" | "_!=_" => characters(size(0).min(size(1)), CHARACTER),
        "_<_" | "_<=_" | "_>_" | "_>=_" if is_text(args.first()) => {
            characters(size(0).min(size(1)), CHARACTER)
        }
        "_+_" => addition(args),
        _ => 1,
    }
}

fn is_text(value: Option<&Value<'_>>) -> bool {
    matches!(value, Some(Value::String(_) | Value::Bytes(_)))
}

fn addition(args: &[Value<'_>]) -> u64 {
    let total = args.iter().map(Value::size).fold(0, u64::saturating_add);
    match args.first() {
        value if is_text(value) => characters(total, CHARACTER),
        Some(Value::List(_)) => 1 + total.saturating_sub(COPIED_FREE),
        _ => 1,
    }
}

fn containment(name: &str, args: &[Value<'_>]) -> u64 {
    let size = |at: usize| args.get(at).map_or(0, Value::size);
    let mut cost = characters(size(0) * 2, CHARACTER);
    if name == "containsCIDR" {
        cost += characters(size(0), CHARACTER) + 1;
    }
    if is_text(args.get(1)) {
        cost += characters(size(1), CHARACTER);
    }
    cost
}

/// Looking at all of a value once.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(_) | Value::Bytes(_) => characters(value.size(), CHARACTER),
        Value::List(list) => list
            .iter()
            .map(|item| item.map_or(1, |item| traversal(&item).max(1)))
            .fold(0, u64::saturating_add),
        Value::Opaque(Opaque::Host(_)) => 1,
        _ => 1,
    }
}
