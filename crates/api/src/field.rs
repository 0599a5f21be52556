//! Errors about one field, worded as Kubernetes words them (apimachinery's `field` package).
//!
//! Validation collects all of them; [`crate::Status::invalid`] turns the list into the answer.

use std::fmt;
use std::ops::Deref;

use crate::Value;

/// A path to a field, as `spec.containers[0].image` or `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path that starts at a top-level field.
    pub fn new(root: impl Into<String>) -> Self {
        Self(root.into())
    }

    /// A field of this object.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        match self.0.as_str() {
            "" => Self(name.to_owned()),
            parent => Self(format!("{parent}.{name}")),
        }
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a field. The values are those that clients match on in `details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A value that must be given is missing.
    Required,
    /// A value that breaks a rule.
    Invalid,
    /// A value outside a closed set.
    NotSupported,
    /// A value that is right in itself but not permitted here.
    Forbidden,
    /// A value that must be unique and is not.
    Duplicate,
    /// A text over its limit.
    TooLong,
    /// A list over its limit.
    TooMany,
    /// A reference to what does not exist.
    NotFound,
    /// A value of the wrong type.
    TypeInvalid,
}

/// One field's error.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// Kind of error.
    pub reason: Reason,
    /// Where.
    pub path: Path,
    /// The message without the path, as `Invalid value: "x": must be …`.
    pub body: String,
}

/// How many errors are kept, and of how much text: nobody reads the thousandth, and no request may cost memory far
/// beyond its own size.
const KEPT_MAX: usize = 1000;
const KEPT_MAX_BYTES: usize = 1024 * 1024;

/// What one validation found, in order. What comes when it [is full](Errors::is_full) is dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    list: Vec<Error>,
    bytes: usize,
}

impl Reason {
    /// The text of `details.causes[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

impl Errors {
    /// None yet.
    pub const fn new() -> Self {
        Self { list: Vec::new(), bytes: 0 }
    }

    /// Keeps an error, if there is room.
    pub fn push(&mut self, error: Error) {
        if !self.is_full() {
            self.bytes += error.path.0.len() + error.body.len();
            self.list.push(error);
        }
    }

    /// Whether no more are kept: whoever would make many more can stop.
    pub fn is_full(&self) -> bool {
        self.list.len() >= KEPT_MAX || self.bytes >= KEPT_MAX_BYTES
    }
}

impl Deref for Errors {
    type Target = [Error];

    fn deref(&self) -> &[Error] {
        &self.list
    }
}

impl Extend<Error> for Errors {
    fn extend<I: IntoIterator<Item = Error>>(&mut self, errors: I) {
        let mut errors = errors.into_iter();
        // Errors that would not be kept are not even made.
        while !self.is_full() {
            let Some(error) = errors.next() else { return };
            self.push(error);
        }
    }
}

impl FromIterator<Error> for Errors {
    fn from_iter<I: IntoIterator<Item = Error>>(errors: I) -> Self {
        let mut kept = Self::new();
        kept.extend(errors);
        kept
    }
}

impl IntoIterator for Errors {
    type Item = Error;
    type IntoIter = std::vec::IntoIter<Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl Error {
    fn new(reason: Reason, path: &Path, body: String) -> Self {
        Self { reason, path: path.clone(), body }
    }

    /// `path: Required value[: detail]`
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::new(Reason::Required, path, with_detail("Required value".into(), detail))
    }

    /// `path: Invalid value: <value>: detail`
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(Reason::Invalid, path, with_detail(format!("Invalid value: {}", value.into()), detail))
    }

    /// `path: Invalid value: detail`, of a value that is better not shown.
    pub fn invalid_here(path: &Path, detail: &str) -> Self {
        Self::new(Reason::Invalid, path, with_detail("Invalid value".into(), detail))
    }

    /// `path: Unsupported value: <value>: supported values: "A", "B"`
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        Self::new(
            Reason::NotSupported,
            path,
            with_detail(format!("Unsupported value: {}", value.into()), &detail),
        )
    }

    /// `path: Forbidden: detail`
    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::new(Reason::Forbidden, path, with_detail("Forbidden".into(), detail))
    }

    /// `path: Duplicate value: <value>`
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(Reason::Duplicate, path, format!("Duplicate value: {}", value.into()))
    }

    /// The same for a value whose text is given as it is to be shown, as `{"Port":80}`.
    pub fn duplicate_shown(path: &Path, value: &str) -> Self {
        Self::new(Reason::Duplicate, path, format!("Duplicate value: {value}"))
    }

    /// `path: Too long: may not be more than <max> bytes`
    pub fn too_long(path: &Path, max_bytes: usize) -> Self {
        Self::new(Reason::TooLong, path, format!("Too long: may not be more than {max_bytes} bytes"))
    }

    /// `path: Too many: <actual>: must have at most <max> items`
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        Self::new(Reason::TooMany, path, format!("Too many: {actual}: must have at most {max} items"))
    }

    /// `path: Not found: <value>`
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(Reason::NotFound, path, format!("Not found: {}", value.into()))
    }

    /// `path: Invalid value: <value>: detail`, for a value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(Reason::TypeInvalid, path, with_detail(format!("Invalid value: {}", value.into()), detail))
    }
}

fn with_detail(head: String, detail: &str) -> String {
    match detail {
        "" => head,
        detail => format!("{head}: {detail}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_kept_within_bounds() {
        let mut made = 0;
        let many = std::iter::repeat_with(|| {
            made += 1;
            Error::required(&Path::new("spec"), "")
        });
        let kept: Errors = many.take(1_000_000).collect();
        assert_eq!((kept.len(), made), (KEPT_MAX, KEPT_MAX));
        let mut long = Errors::new();
        for _ in 0..3 {
            long.push(Error::invalid(&Path::new("spec"), "x".repeat(KEPT_MAX_BYTES), ""));
        }
        assert_eq!(long.len(), 1);
    }
}
