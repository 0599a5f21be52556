//! JSONPath as Kubernetes reads it: printer columns, scale paths and selectable fields of custom resources, and the
//! expressions of `kubectl -o jsonpath`.
//!
//! - Fields (`.spec.replicas`, `['a.b']`, `.a\.b`), indexes and slices (`[0]`, `[-1]`, `[1:3]`, `[0:9:2]`), `*`,
//!   descent (`..name`), unions (`['a','b']`) and filters (`[?(@.type=="Ready")]`).
//! - Nothing found is no error: it is an empty answer.
//! - Work is bounded: nesting of filters, length of a path, and values that one step may yield.

mod parse;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use crate::Value;

/// Values that one step yields, at most; what lies beyond is left out.
const FOUND_MAX: usize = 10_000;

/// A compiled path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Box<[Step]>,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Box<str>),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Every,
    /// The value itself and everything below it.
    Descend,
    AnyOf(Box<[Step]>),
    Filter(Box<Filter>),
}

/// `left operator right`; without an operator, `left` must exist.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    test: Option<(Comparison, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// From the item (`@`).
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Compiles `.a.b`, `{.a.b}`, `$.a.b` or `a.b`.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        parse::path(text)
    }

    /// All values at the path, in document order.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.take(value, &mut next);
            }
            next.truncate(FOUND_MAX);
            found = next;
        }
        found
    }

    /// Values as text: separated by spaces, text bare, anything else as JSON.
    pub fn join(values: &[&Value]) -> String {
        values
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The fields from the root if the path is only fields, as `spec.replicas` is.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps.iter().map(Step::field).collect()
    }
}

impl Step {
    fn field(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            _ => None,
        }
    }

    fn take<'v>(&self, value: &'v Value, found: &mut Vec<&'v Value>) {
        if found.len() >= FOUND_MAX {
            return;
        }
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => found.extend(map.get(name.as_ref())),
            (Self::Index(index), Value::Array(items)) => found.extend(item(items, *index)),
            (Self::Slice(from, to, by), Value::Array(items)) => slice(items, (*from, *to, *by), found),
            (Self::Every, Value::Array(items)) => found.extend(items),
            (Self::Every, Value::Object(map)) => found.extend(map.values()),
            (Self::Descend, _) => descend(value, found),
            (Self::AnyOf(steps), _) => steps.iter().for_each(|step| step.take(value, found)),
            (Self::Filter(filter), Value::Array(items)) => {
                found.extend(items.iter().filter(|item| filter.holds(item)));
            }
            _ => {}
        }
    }
}

fn item(items: &[Value], index: i64) -> Option<&Value> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let index = if index < 0 { index.checked_add(length)? } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn slice<'v>(
    items: &'v [Value],
    (from, to, by): (Option<i64>, Option<i64>, i64),
    found: &mut Vec<&'v Value>,
) {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let bound =
        |at: i64| usize::try_from(if at < 0 { at.saturating_add(length) } else { at }.clamp(0, length));
    let (from, to) = (bound(from.unwrap_or(0)).unwrap_or(0), bound(to.unwrap_or(length)).unwrap_or(0));
    let by = usize::try_from(by).unwrap_or(1).max(1);
    found.extend(items.get(from..to).into_iter().flatten().step_by(by));
}

fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    if found.len() >= FOUND_MAX {
        return;
    }
    found.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|v| descend(v, found)),
        Value::Object(map) => map.values().for_each(|v| descend(v, found)),
        _ => {}
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let left = self.left.find(item);
        let Some((comparison, right)) = &self.test else { return !left.is_empty() };
        match (left.as_slice(), right.find(item).as_slice()) {
            ([left], [right]) => comparison.holds(left, right),
            _ => false,
        }
    }
}

impl Operand {
    fn find<'v>(&'v self, item: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Path(path) => path.find(item),
            Self::Literal(value) => vec![value],
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (a, b) => (a == b).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}
