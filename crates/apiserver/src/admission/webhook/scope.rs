//! Which requests a policy is about: told by what tells it for webhooks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tiphys_api::schema::Resource;
use tiphys_api::{Status, Value, json};

use super::super::Review;
use super::config::{self, Webhook};
use super::{Webhooks, matching};
use crate::registry::tree;

/// `MatchResources` of a policy or its binding.
pub struct Scope {
    /// One for each rule, with the only names that it is about (none: any).
    rules: Vec<(Webhook, Box<[Box<str>]>)>,
    excluded: Vec<(Webhook, Box<[Box<str>]>)>,
}

impl Scope {
    /// `name`: whose it is; without rules it is about everything.
    pub fn new(name: &str, resources: &Value) -> Self {
        let everything =
            json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]});
        let part = |rule: &Value, selects: bool| {
            let of = |name: &str| if selects { tree::at(resources, &[name]).clone() } else { Value::Null };
            let raw = json!({
                "name": name, "rules": [rule], "matchPolicy": tree::at(resources, &["matchPolicy"]),
                "namespaceSelector": of("namespaceSelector"), "objectSelector": of("objectSelector"),
            });
            let names = tree::items(rule, &["resourceNames"]).iter().filter_map(Value::as_str);
            Some((config::read(&raw)?, names.map(Into::into).collect()))
        };
        let rules = tree::items(resources, &["resourceRules"]);
        let rules = if rules.is_empty() { std::slice::from_ref(&everything) } else { rules };
        let excluded = tree::items(resources, &["excludeResourceRules"]);
        Self {
            rules: rules.iter().filter_map(|rule| part(rule, true)).collect(),
            excluded: excluded.iter().filter_map(|rule| part(rule, false)).collect(),
        }
    }
}

impl Webhooks {
    /// Whether policies judge a request at all: not while a server starts, never about themselves, and not about questions who
    /// somebody is and what they may do.
    pub fn judges(&self, review: &Review<'_>) -> bool {
        let question = ["authentication.k8s.io", "authorization.k8s.io"].contains(&review.gvr.group.as_ref());
        self.open.load(Ordering::Acquire) && !matching::is_exempt(review) && !question
    }

    /// The resource as which a request is in a scope; `None` if it is not.
    pub async fn in_scope(
        &self,
        scope: &Scope,
        review: &Review<'_>,
    ) -> Result<Option<Arc<Resource>>, Status> {
        let named = |names: &[Box<str>]| names.is_empty() || names.iter().any(|name| **name == *review.name);
        for (rule, _) in scope.excluded.iter().filter(|(_, names)| named(names)) {
            if matching::told(rule, review, || self.versions.of(review.resource)).is_some() {
                return Ok(None);
            }
        }
        for (rule, _) in scope.rules.iter().filter(|(_, names)| named(names)) {
            if let Some(told) = self.told(rule, review).await? {
                return Ok(Some(told));
            }
        }
        Ok(None)
    }
}
