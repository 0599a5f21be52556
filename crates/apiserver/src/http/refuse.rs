//! The words of a 403: exactly kube-apiserver's, since people search for them and clients match on them.

use tiphys_api::{Gvr, Status};

use super::path::RequestInfo;
use crate::auth::{Attributes, User};

/// What an authorizer is asked about a request.
pub fn attributes<'a>(info: &'a RequestInfo, user: &'a User) -> Attributes<'a> {
    Attributes {
        user,
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
    }
}

/// The refusal of what `attributes` ask; `why` is the authorizer's reason and may be empty.
pub fn forbidden(attributes: &Attributes<'_>, why: &str) -> Status {
    let mut words = sentence(attributes);
    if !why.is_empty() {
        words = format!("{words}: {why}");
    }
    if attributes.resource.is_empty() {
        let mut status = Status::failure(403, "Forbidden", format!("forbidden: {words}"));
        status.details = Some(tiphys_api::status::Details::default());
        return status;
    }
    let gvr = Gvr::owned(attributes.group, attributes.version, attributes.resource);
    Status::forbidden(&gvr, attributes.name, &words)
}

fn sentence(attributes: &Attributes<'_>) -> String {
    let Attributes { verb, group, namespace, path, .. } = attributes;
    let user = &attributes.user.name;
    let resource = match attributes.subresource {
        "" => attributes.resource.to_owned(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    match (resource.as_str(), *namespace) {
        ("", _) => format!("User {user:?} cannot {verb} path {path:?}"),
        (resource, "") => {
            format!(
                "User {user:?} cannot {verb} resource {resource:?} in API group {group:?} at the cluster scope"
            )
        }
        (resource, namespace) => format!(
            "User {user:?} cannot {verb} resource {resource:?} in API group {group:?} in the namespace {namespace:?}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::query::Query;
    use super::*;

    fn words(method: Method, path: &str) -> String {
        let user = User { name: "x".into(), ..User::default() };
        let info = RequestInfo::parse(&method, path, &Query::default()).unwrap();
        forbidden(&attributes(&info, &user), "").message
    }

    #[test]
    fn refusals_are_worded_as_kubernetes_words_them() {
        assert_eq!(
            words(Method::GET, "/api/v1/namespaces/default/pods"),
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        assert_eq!(
            words(Method::PUT, "/apis/apps/v1/namespaces/n/deployments/d/scale"),
            r#"deployments.apps "d" is forbidden: User "x" cannot update resource "deployments/scale" in API group "apps" in the namespace "n""#
        );
        assert_eq!(
            words(Method::GET, "/api/v1/nodes"),
            r#"nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope"#
        );
        assert_eq!(words(Method::GET, "/metrics"), r#"forbidden: User "x" cannot get path "/metrics""#);
    }
}
