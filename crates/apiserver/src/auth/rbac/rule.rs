//! One policy rule, and whether it allows a request.

use serde::{Deserialize, Deserializer, Serialize};

use crate::auth::Attributes;

type Texts = Vec<Box<str>>;

/// `rbac/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// API groups; `*` is all.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Texts,
    /// Paths; a trailing `*` matches any rest.
    #[serde(rename = "nonResourceURLs", deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Texts,
    /// Object names; none means all.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Texts,
    /// `pods`, `pods/log`, `*/scale`; `*` is all.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub resources: Texts,
    /// Verbs; `*` is all.
    #[serde(deserialize_with = "texts")]
    pub verbs: Texts,
}

/// `null` counts as an empty list.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Rule {
    /// Whether this rule allows the request.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if asked.resource.is_empty() {
            return self.non_resource_urls.iter().any(|url| url_covers(url, asked.path));
        }
        has(&self.api_groups, asked.group)
            && self
                .resources
                .iter()
                .any(|resource| matches_resource(resource, asked.resource, asked.subresource))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name.as_ref() == asked.name))
    }
}

/// Whether a list holds a text, or `*`.
fn has(texts: &[Box<str>], text: &str) -> bool {
    texts.iter().any(|t| t.as_ref() == "*" || t.as_ref() == text)
}

/// Whether `pods`, `pods/log`, `*/scale` or `*` stands for a resource and subresource.
fn matches_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (subresource.is_empty() && pattern == resource),
        Some((head, tail)) => {
            !subresource.is_empty() && tail == subresource && (head == "*" || head == resource)
        }
    }
}

/// Whether a path pattern covers a path (or a narrower pattern).
pub(super) fn url_covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
