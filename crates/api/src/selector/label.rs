//! Label selectors and how they match.

use std::fmt;

use crate::Value;

use super::{SelectorError, parse};
use crate::field;
use crate::object::Labels;
use crate::validate;

/// A conjunction of requirements on labels, or one that matches nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All must hold; in key order.
    requirements: Box<[Requirement]>,
    /// Matches no object (a `metav1.LabelSelector` that is null).
    nothing: bool,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: Box<str>,
    /// How values relate.
    pub operator: Operator,
    /// Sorted values: one for `=`, `!=`, `>` and `<`, none for existence.
    pub values: Box<[Box<str>]>,
}

/// How a label relates to the values of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key=value`
    Equals,
    /// `key==value`
    DoubleEquals,
    /// `key!=value`; holds without the label.
    NotEquals,
    /// `key in (a,b)`
    In,
    /// `key notin (a,b)`; holds without the label.
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>1`, both as integers
    GreaterThan,
    /// `key<1`, both as integers
    LessThan,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Reads the text form, as in `?labelSelector=`. The empty text matches everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::requirements(text).map(Self::new)
    }

    /// Reads a `metav1.LabelSelector`: null matches nothing, `{}` everything.
    pub fn from_value(selector: &Value) -> Result<Self, SelectorError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default();
                requirements.push(Requirement::new(key, Operator::Equals, vec![value.into()])?);
            }
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_value(expression)?);
        }
        Ok(Self::new(requirements))
    }

    /// Matches objects that carry all of these labels; none given matches everything. Not validated.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let one = |(key, value): (&str, &str)| Requirement {
            key: key.into(),
            operator: Operator::Equals,
            values: [value.into()].into(),
        };
        Self::new(labels.into_iter().map(one).collect())
    }

    fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: requirements.into(), nothing: false }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_with(|key| labels.get(key))
    }

    /// [`Self::matches`] for labels kept in any other form.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether no object can be selected.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The requirements in key order.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The one value a label must have, if the selector pins it.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key.as_ref() == key)?;
        match (requirement.operator, requirement.values.as_ref()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

impl Requirement {
    /// A checked requirement. Errors name `key`, `values[0][key]` and so on, as apimachinery's do.
    pub fn new(key: &str, operator: Operator, mut values: Vec<Box<str>>) -> Result<Self, SelectorError> {
        let mut errors = field::Errors::new();
        let problems = validate::label_key(key);
        if !problems.is_empty() {
            errors.push(field::Error::invalid(&field::Path::new("key"), key, &problems.join("; ")));
        }
        let path = field::Path::new("values");
        if let Some(problem) = operator.arity_problem(values.len()) {
            errors.push(field::Error::invalid(&path, texts(&values), problem));
        }
        for (i, value) in values.iter().enumerate() {
            operator.value_problems(key, value, &path.index(i), &mut errors);
        }
        values.sort();
        values.dedup();
        match errors.is_empty() {
            true => Ok(Self { key: key.into(), operator, values: values.into() }),
            false => Err(SelectorError(aggregate(&errors))),
        }
    }

    fn from_value(expression: &Value) -> Result<Self, SelectorError> {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
        };
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        Self::new(text("key"), operator, values.filter_map(Value::as_str).map(Into::into).collect())
    }

    /// Whether a label of this value (`None`: no such label) satisfies the requirement.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |label: &str| self.values.iter().any(|v| v.as_ref() == label);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compare(label, |a, b| a > b),
            Operator::LessThan => self.compare(label, |a, b| a < b),
        }
    }

    fn compare(&self, label: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let numbers = (label.and_then(integer), self.values.first().and_then(|v| integer(v)));
        matches!(numbers, (Some(have), Some(want)) if holds(have, want))
    }
}

impl Operator {
    /// As the text form writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Exists => "exists",
            Self::DoesNotExist => "!",
            Self::GreaterThan => "gt",
            Self::LessThan => "lt",
        }
    }

    fn arity_problem(self, count: usize) -> Option<&'static str> {
        match (self, count) {
            (Self::In | Self::NotIn, 0) => Some("for 'in', 'notin' operators, values set can't be empty"),
            (Self::Equals | Self::DoubleEquals | Self::NotEquals, n) if n != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            (Self::Exists | Self::DoesNotExist, 1..) => {
                Some("values set must be empty for exists and does not exist")
            }
            (Self::GreaterThan | Self::LessThan, n) if n != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        }
    }

    fn value_problems(self, key: &str, value: &str, path: &field::Path, errors: &mut field::Errors) {
        if matches!(self, Self::GreaterThan | Self::LessThan) && integer(value).is_none() {
            let problem = "for 'Gt', 'Lt' operators, the value must be an integer";
            errors.push(field::Error::invalid(path, value, problem));
        }
        let problems = validate::label_value(value);
        if !problems.is_empty() {
            errors.push(field::Error::invalid(&path.key(key), value, &problems.join("; ")));
        }
    }
}

/// As Go's `strconv.ParseInt`, which takes a sign.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn texts(values: &[Box<str>]) -> Value {
    values.iter().map(|v| Value::from(v.as_ref())).collect()
}

fn aggregate(errors: &[field::Error]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// The text form; it parses back to an equal selector. One that matches nothing prints as the empty text.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In | Operator::NotIn => write!(f, "{key} {} ({values})", self.operator.as_str()),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            _ => write!(f, "{key}{}{values}", self.operator.as_str()),
        }
    }
}
