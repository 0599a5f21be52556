//! Field selectors: equality on a few fields that a resource makes selectable.

use std::borrow::Cow;
use std::fmt;

use super::SelectorError;

/// A conjunction of terms on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Box<[FieldTerm]>,
}

/// `path=value` or `path!=value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldTerm {
    /// As `spec.nodeName`.
    pub path: Box<str>,
    /// Whether the field must be equal (`=`, `==`) or must differ (`!=`).
    pub equal: bool,
    /// Value without escapes. A missing field is the empty text.
    pub value: Box<str>,
}

impl FieldSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads the text form, as in `?fieldSelector=`. The empty text matches everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let parts = split_unescaped(text).filter(|part| !part.is_empty());
        let mut terms = parts.map(|part| term(text, part)).collect::<Result<Vec<_>, _>>()?;
        terms.sort_unstable();
        Ok(Self { terms: terms.into() })
    }

    /// Whether an object is selected whose field of a path is what `get` tells.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (get(&t.path).unwrap_or_default() == t.value.as_ref()) == t.equal)
    }

    /// The terms, sorted.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one value a field must have, if the selector pins it.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.path.as_ref() == path).map(|t| t.value.as_ref())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, FieldTerm { path, equal, value }) in self.terms.iter().enumerate() {
            let (comma, operator) = (if i == 0 { "" } else { "," }, if *equal { "=" } else { "!=" });
            write!(f, "{comma}{path}{operator}{}", escape_value(value))?;
        }
        Ok(())
    }
}

/// Writes `\`, `,` and `=` in a value so that it stays one value.
pub fn escape_value(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ',', '=']) {
        return value.into();
    }
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=").into()
}

fn split_unescaped(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

fn term(whole: &str, part: &str) -> Result<FieldTerm, SelectorError> {
    let misread = || SelectorError(format!("invalid selector: '{whole}'; can't understand '{part}'"));
    // The first operator of any kind ends the path; the longer one wins at the same place.
    let (at, operator) = part
        .char_indices()
        .find_map(|(at, _)| {
            let rest = part.get(at..)?;
            ["!=", "==", "="].into_iter().find(|op| rest.starts_with(op)).map(|op| (at, op))
        })
        .ok_or_else(misread)?;
    let (path, rest) = part.split_at(at);
    let value = unescape(rest.strip_prefix(operator).unwrap_or(rest))?;
    Ok(FieldTerm { path: path.into(), equal: operator != "!=", value: value.into() })
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                other => {
                    let after = other.map(String::from).unwrap_or_default();
                    let text = format!("invalid field selector: invalid escape sequence: \\{after}");
                    return Err(SelectorError(text));
                }
            },
            ',' | '=' => {
                // Kubernetes prints the character's number here.
                let text = format!("invalid field selector: unescaped character in value: {}", u32::from(c));
                return Err(SelectorError(text));
            }
            c => plain.push(c),
        }
    }
    Ok(plain)
}
