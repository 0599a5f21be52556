//! URLs and bodies of requests. Pure.

use std::fmt::Write;

use tiphys_api::{Value, json};

use crate::{DeleteOptions, ListOptions, PatchKind, WatchOptions, WriteOptions};

/// A query string under construction; parameters without a value are left out.
#[derive(Default)]
pub(super) struct Query(String);

impl Query {
    fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            escape(value, b"-._~:,!()", &mut self.0);
        }
        self
    }

    pub(super) fn list(options: &ListOptions) -> Self {
        let limit = if options.limit == 0 { String::new() } else { options.limit.to_string() };
        Self::default()
            .with("labelSelector", &options.labels)
            .with("fieldSelector", &options.fields)
            .with("limit", &limit)
            .with("continue", &options.continue_token)
            .with("resourceVersion", &options.resource_version)
    }

    pub(super) fn watch(options: &WatchOptions) -> Self {
        Self::default()
            .with("watch", "true")
            .with("labelSelector", &options.labels)
            .with("fieldSelector", &options.fields)
            .with("resourceVersion", &options.resource_version)
            .with("allowWatchBookmarks", if options.bookmarks { "true" } else { "" })
    }

    pub(super) fn write(options: &WriteOptions) -> Self {
        Self::default()
            .with("fieldManager", &options.field_manager)
            .with("force", if options.force { "true" } else { "" })
            .with("dryRun", if options.dry_run { "All" } else { "" })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path with everything escaped that a URL cannot hold.
pub(super) fn path(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, b"/-._~:,!()@+=;$&'*", &mut out);
    out
}

fn escape(text: &str, plain: &[u8], out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all");
        }
    }
}

pub(super) fn content_type(kind: PatchKind) -> &'static str {
    match kind {
        PatchKind::Json => "application/json-patch+json",
        PatchKind::Merge => "application/merge-patch+json",
        PatchKind::Strategic => "application/strategic-merge-patch+json",
        PatchKind::Apply => "application/apply-patch+yaml",
    }
}

/// The body of a deletion.
pub(super) fn delete_options(options: &DeleteOptions) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = options.propagation {
        body["propagationPolicy"] = policy.into();
    }
    if let Some(uid) = &options.uid {
        body["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(version) = options.resource_version {
        body["preconditions"]["resourceVersion"] = version.to_string().into();
    }
    if options.dry_run {
        body["dryRun"] = json!(["All"]);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_escaped() {
        let options = ListOptions { labels: "a=b,c in (d)".into(), limit: 5, ..ListOptions::default() };
        assert_eq!(Query::list(&options).as_str(), "?labelSelector=a%3Db,c%20in%20(d)&limit=5");
        assert_eq!(path("/api/v1/nodes/a b?"), "/api/v1/nodes/a%20b%3F");
    }

    #[test]
    fn preconditions_are_sent() {
        let options =
            DeleteOptions { uid: Some("u".into()), resource_version: Some(7), ..Default::default() };
        let expected = json!({"uid": "u", "resourceVersion": "7"});
        assert_eq!(delete_options(&options)["preconditions"], expected);
    }
}
