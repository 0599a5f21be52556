//! The order in which authorizers are asked, and how a refusal is worded.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::status::Details;
use tiphys_api::{Gvr, Status};

use super::groups::MASTERS;
use super::{Attributes, Authorizer, Decision};

/// Asks one after the other; the first to allow decides. `system:masters` is never refused, so that no mistake in a role
/// locks the administrator out.
pub struct Authorizers(Vec<Arc<dyn Authorizer>>);

impl Authorizers {
    /// In the order of asking.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(authorizers)
    }
}

#[async_trait]
impl Authorizer for Authorizers {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow;
        }
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::Allow => return Decision::Allow,
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

/// The 403 that answers a refused request; `reason` may be empty.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = refusal(attributes);
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if attributes.resource.is_empty() {
        let status = Status::failure(403, "Forbidden", format!("forbidden: {why}"));
        return Status { details: Some(Details::default()), ..status };
    }
    let gvr = Gvr::owned(attributes.group, attributes.version, attributes.resource);
    Status::forbidden(&gvr, attributes.name, &why)
}

fn refusal(a: &Attributes<'_>) -> String {
    let user = &a.user.name;
    if a.resource.is_empty() {
        return format!("User {user:?} cannot {} path {:?}", a.verb, a.path);
    }
    let resource = match a.subresource {
        "" => a.resource.to_owned(),
        subresource => format!("{}/{subresource}", a.resource),
    };
    let place = match a.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    format!("User {user:?} cannot {} resource {resource:?} in API group {:?} {place}", a.verb, a.group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;

    #[test]
    fn refusals_are_worded_as_kubernetes_words_them() {
        let user = User { name: "jane".into(), ..User::default() };
        let attributes = Attributes {
            user: &user,
            verb: "get",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "log",
            namespace: "default",
            name: "web",
            path: "",
        };
        let status = forbidden(&attributes, "");
        assert_eq!(
            status.message,
            r#"pods "web" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default""#
        );
        let cluster =
            Attributes { namespace: "", name: "", resource: "nodes", subresource: "", ..attributes };
        assert_eq!(
            forbidden(&cluster, "because").message,
            r#"nodes is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope: because"#
        );
        let path = Attributes { resource: "", path: "/metrics", ..cluster };
        assert_eq!(forbidden(&path, "").message, r#"forbidden: User "jane" cannot get path "/metrics""#);
    }
}
