//! Roles hand out only what their author holds: the check that Kubernetes makes when roles and bindings are stored.
//!
//! - A role may be written by who holds all its rules, or may `escalate` it.
//! - A binding may be written by who holds all rules of the role it names, or may `bind` that role.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::{Gvr, Status, Value};

use super::tree::text;
use super::{Operation, Plugin, Review};
use crate::auth::rbac::covers::{describe, missing, quoted};
use crate::auth::rbac::{GROUP, Rbac, Rule};
use crate::auth::{Attributes, Authorizer, Decision};

/// See the module.
pub struct RbacEscalation {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

impl RbacEscalation {
    /// `rbac` knows who holds what; `authorizer` decides on `escalate` and `bind`.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(&self, review: &Review<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let asked = Attributes {
            user: review.user,
            verb,
            group: GROUP,
            version: "v1",
            resource,
            subresource: "",
            namespace: review.namespace,
            name,
            path: "",
        };
        self.authorizer.authorize(&asked).await == Decision::Allow
    }

    async fn check_role(&self, review: &Review<'_>) -> Result<(), Status> {
        let keys = ["rules", "aggregationRule"];
        let old = review.old.map(|old| old.value()).transpose().map_err(Status::internal)?;
        let same = old.is_some_and(|old| keys.iter().all(|key| old.get(key) == review.object.get(*key)));
        let name = object_name(review);
        if same || self.may(review, "escalate", &review.gvr.resource, name).await {
            return Ok(());
        }
        let aggregates = review.object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
        if aggregates && !self.lacking(review, &everything()).is_empty() {
            return Err(review.forbidden("must have cluster-admin privileges to use an aggregationRule"));
        }
        let rules: Option<Vec<Rule>> =
            Option::deserialize(&review.object["rules"]).map_err(Status::internal)?;
        self.refuse_lacking(review, &rules.unwrap_or_default())
    }

    async fn check_binding(&self, review: &Review<'_>) -> Result<(), Status> {
        let old = review.old.map(|old| old.value()).transpose().map_err(Status::internal)?;
        let keys = ["roleRef", "subjects"];
        if old.is_some_and(|old| keys.iter().all(|key| old.get(key) == review.object.get(*key))) {
            return Ok(());
        }
        let role = text(review.object, "/roleRef/name");
        let (resource, home) = match text(review.object, "/roleRef/kind") {
            "Role" => ("roles", review.namespace),
            _ => ("clusterroles", ""),
        };
        if self.may(review, "bind", resource, role).await {
            return Ok(());
        }
        let rules = self.rbac.rules_of(home, role);
        let rules = rules.ok_or_else(|| Status::not_found(&Gvr::owned(GROUP, "v1", resource), role))?;
        self.refuse_lacking(review, &rules)
    }

    fn lacking(&self, review: &Review<'_>, wanted: &[Rule]) -> Vec<Rule> {
        missing(&self.rbac.rules_for(review.user, review.namespace).0, wanted)
    }

    fn refuse_lacking(&self, review: &Review<'_>, wanted: &[Rule]) -> Result<(), Status> {
        let lacking = self.lacking(review, wanted);
        if lacking.is_empty() {
            return Ok(());
        }
        let (user, rules) = (review.user, describe(&lacking));
        Err(review.forbidden(&format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{rules}",
            user.name,
            quoted(&user.groups),
        )))
    }
}

/// The name to be checked: that of the object, however it is asked for.
fn object_name<'a>(review: &'a Review<'_>) -> &'a str {
    match review.name {
        "" => text(review.object, "/metadata/name"),
        name => name,
    }
}

fn everything() -> [Rule; 2] {
    let all = || vec![Box::from("*")];
    let resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
    [resources, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() }]
}

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        if !writes
            || review.gvr.group != GROUP
            || !review.subresource.is_empty()
            || *review.object == Value::Null
        {
            return Ok(());
        }
        match review.gvr.resource.as_ref() {
            "roles" | "clusterroles" => self.check_role(review).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(review).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::groups::MASTERS;
    use crate::auth::rbac::tests::sample;
    use crate::auth::{Authorizers, User};

    fn plugin() -> RbacEscalation {
        let rbac = Arc::new(Rbac::new(Arc::new(sample())));
        let authorizer = Arc::new(Authorizers::new(vec![rbac.clone()]));
        RbacEscalation::new(rbac, authorizer)
    }

    fn role(verb: &str) -> Case {
        let rules = json!([{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]);
        Case::create("rbac.authorization.k8s.io/roles", "dev", json!({"rules": rules}))
    }

    fn binding(kind: &str, name: &str) -> Case {
        let object = json!({"roleRef": {"kind": kind, "name": name}, "subjects": []});
        Case::create("rbac.authorization.k8s.io/rolebindings", "dev", object)
    }

    #[tokio::test]
    async fn jane_gives_what_she_holds() {
        assert!(role("get").validate(&plugin()).await.is_ok());
        assert!(binding("Role", "reader").validate(&plugin()).await.is_ok());
        let refused = role("delete").validate(&plugin()).await.unwrap_err();
        assert_eq!(
            refused.message,
            "roles.rbac.authorization.k8s.io \"x\" is forbidden: user \"jane\" (groups=[]) is attempting to grant RBAC \
             permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
        );
        assert_eq!(binding("ClusterRole", "nodes").validate(&plugin()).await.unwrap_err().code, 403);
        assert_eq!(binding("ClusterRole", "none").validate(&plugin()).await.unwrap_err().code, 404);
    }

    #[tokio::test]
    async fn the_administrator_gives_all_and_old_rules_may_stay() {
        let root = User { name: "root".into(), groups: vec![MASTERS.into()], ..User::default() };
        assert!(Case { user: root.clone(), ..role("delete") }.validate(&plugin()).await.is_ok());
        assert!(Case { user: root, ..binding("ClusterRole", "none") }.validate(&plugin()).await.is_ok());
        let mut relabelled = role("delete").operation(Operation::Update);
        relabelled.old = Some(json!({"metadata": {}, "rules": relabelled.object["rules"]}));
        assert!(relabelled.validate(&plugin()).await.is_ok());
        let object = json!({"rules": null, "aggregationRule": {"clusterRoleSelectors": []}});
        let aggregate = Case::create("rbac.authorization.k8s.io/clusterroles", "", object);
        let refused = aggregate.validate(&plugin()).await.unwrap_err();
        assert!(refused.message.ends_with("must have cluster-admin privileges to use an aggregationRule"));
    }
}
