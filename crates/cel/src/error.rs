//! What goes wrong: with a text ([`CompileError`], in the form that Kubernetes' users know) and with a value
//! ([`EvalError`]).

use std::fmt;

/// One thing wrong with an expression's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where: an offset in characters.
    pub at: u32,
    /// What.
    pub message: String,
}

impl Issue {
    /// An issue at a place.
    pub fn new(at: u32, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// All that is wrong with an expression, as text with the places marked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    source_text: Box<str>,
    /// What is wrong, in order of place.
    pub issues: Vec<Issue>,
}

impl CompileError {
    /// The issues of a text.
    pub fn new(text: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.at);
        Self { source_text: text.into(), issues }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, issue) in self.issues.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            marked(&self.source_text, issue, f)?;
        }
        Ok(())
    }
}

/// `ERROR: <input>:1:6: message`, the line, and a mark below it.
fn marked(text: &str, issue: &Issue, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut number, mut column, mut line) = (1, issue.at as usize, "");
    for (index, candidate) in text.split('\n').enumerate() {
        let length = candidate.chars().count();
        (number, line) = (index + 1, candidate);
        if column <= length {
            break;
        }
        column -= length + 1;
    }
    write!(
        f,
        "ERROR: <input>:{number}:{}: {}\n | {}\n | ",
        column + 1,
        issue.message,
        line.replace('\t', " ")
    )?;
    (0..column).try_for_each(|_| f.write_str("."))?;
    f.write_str("^")
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An operation failed; `&&` and `||` may do without its value.
    #[error("{0}")]
    Failed(Box<str>),
    /// It did more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
}

impl EvalError {
    /// An operation that failed.
    pub fn failed(message: impl Into<Box<str>>) -> Self {
        Self::Failed(message.into())
    }

    /// A function that knows no such arguments.
    pub fn no_such_overload() -> Self {
        Self::failed("no such overload")
    }
}
