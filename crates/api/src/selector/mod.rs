//! Label and field selectors, as text and as `metav1.LabelSelector`.
//!
//! - [`LabelSelector`] reads `a=b,c!=d,e in (f,g),!h`, with Kubernetes' grammar and error texts.
//! - [`FieldSelector`] reads `spec.nodeName=n,status.phase!=Failed`, with backslash escapes in values.
//! - Matching allocates nothing: it runs for every object and every watcher.

mod field;
mod label;
mod parse;
#[cfg(test)]
mod tests;

pub use field::{FieldSelector, FieldTerm, escape_value};
pub use label::{LabelSelector, Operator, Requirement};

/// Why a selector was refused; the text is what kube-apiserver answers with 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);
