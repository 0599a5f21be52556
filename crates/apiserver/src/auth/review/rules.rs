//! SelfSubjectRulesReview: all that I may do in a namespace, as far as roles say.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::{Map, Object, Status, Value, json};

use crate::auth::groups::MASTERS;
use crate::auth::rbac::{Rbac, Rule};
use crate::registry::{Computed, Request};

pub(super) struct RulesReview(pub(super) Arc<Rbac>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    namespace: String,
}

#[async_trait]
impl Computed for RulesReview {
    async fn create(
        &self,
        request: &Request<'_>,
        _parent: Option<&Object>,
        body: &mut Value,
    ) -> Result<(), Status> {
        let Spec { namespace } = super::spec(body)?;
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let (mut rules, errors) = self.0.rules_for(request.user, &namespace);
        if request.user.is_in(MASTERS) {
            rules.splice(0..0, everything());
        }
        // The node authorizer decides from pods, which no list of rules can say.
        let incomplete = !errors.is_empty() || request.user.node().is_some();
        let (paths, resources): (Vec<&Rule>, Vec<&Rule>) =
            rules.iter().partition(|rule| rule.resources.is_empty());
        let mut status = json!({
            "incomplete": incomplete,
            "nonResourceRules": paths.into_iter().map(path_rule).collect::<Vec<_>>(),
            "resourceRules": resources.into_iter().map(resource_rule).collect::<Vec<_>>(),
        });
        if !errors.is_empty() {
            status["evaluationError"] = errors.join(", ").into();
        }
        body["status"] = status;
        Ok(())
    }
}

fn everything() -> [Rule; 2] {
    let all = || vec![Box::from("*")];
    let resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
    [resources, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() }]
}

fn path_rule(rule: &Rule) -> Value {
    json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls })
}

fn resource_rule(rule: &Rule) -> Value {
    let mut out = Map::new();
    out.insert("verbs".into(), json!(rule.verbs));
    out.insert("apiGroups".into(), json!(rule.api_groups));
    out.insert("resources".into(), json!(rule.resources));
    if !rule.resource_names.is_empty() {
        out.insert("resourceNames".into(), json!(rule.resource_names));
    }
    out.into()
}
