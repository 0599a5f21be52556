//! SubjectAccessReview and its two relatives: what would the authorizer say.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tiphys_api::field::{Error, Path};
use tiphys_api::{Gvk, Object, Status, Value, json};

use super::AUTHORIZATION;
use crate::auth::{Attributes, Authorizer, Decision, User};
use crate::registry::{Computed, Request};

/// Whose access is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Anyone,
    AnyoneHere,
    Own,
}

pub(super) struct AccessReview {
    pub(super) whose: Whose,
    pub(super) authorizer: Arc<dyn Authorizer>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<PathAttributes>,
    user: String,
    groups: Option<Vec<String>>,
    uid: String,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

#[async_trait]
impl Computed for AccessReview {
    async fn create(
        &self,
        request: &Request<'_>,
        _parent: Option<&Object>,
        body: &mut Value,
    ) -> Result<(), Status> {
        let spec: Spec = super::spec(body)?;
        self.validate(&spec, body, request.namespace)?;
        let other;
        let user = match self.whose {
            Whose::Own => request.user,
            _ => {
                other = subject(&spec);
                &other
            }
        };
        let decision = self.authorizer.authorize(&attributes(&spec, user)).await;
        body["status"] = match decision {
            Decision::Allow => json!({ "allowed": true }),
            Decision::NoOpinion(reason) if reason.is_empty() => json!({ "allowed": false }),
            Decision::NoOpinion(reason) => json!({ "allowed": false, "reason": reason }),
        };
        Ok(())
    }
}

impl AccessReview {
    fn kind(&self) -> &'static str {
        match self.whose {
            Whose::Anyone => "SubjectAccessReview",
            Whose::AnyoneHere => "LocalSubjectAccessReview",
            Whose::Own => "SelfSubjectAccessReview",
        }
    }

    /// A question has no name and no labels.
    fn metadata(&self, body: &Value) -> Vec<Error> {
        let here = self.whose == Whose::AnyoneHere;
        let aside = |name: &str| {
            name == "managedFields" || name == "creationTimestamp" || (here && name == "namespace")
        };
        let fields = body.get("metadata").and_then(Value::as_object);
        let why = if here { "must be empty except for namespace" } else { "must be empty" };
        let any = fields.is_some_and(|fields| fields.keys().any(|name| !aside(name)));
        let error = || Error::invalid(&Path::new("metadata"), body["metadata"].clone(), why);
        any.then(error).into_iter().collect()
    }

    fn validate(&self, spec: &Spec, body: &Value, namespace: &str) -> Result<(), Status> {
        let path = Path::new("spec");
        let mut errors = self.metadata(body);
        let what = path.child("resourceAttributes");
        match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(_), Some(_)) => errors.push(Error::invalid(
                &path.child("nonResourceAttributes"),
                Value::Null,
                "cannot be specified in combination with resourceAttributes",
            )),
            (None, None) => errors.push(Error::invalid(
                &what,
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )),
            _ => {}
        }
        let nobody = spec.user.is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty);
        if self.whose != Whose::Own && nobody {
            errors.push(Error::invalid(
                &path.child("user"),
                "",
                "at least one of user or group must be specified",
            ));
        }
        if self.whose == Whose::AnyoneHere {
            let asked = spec.resource_attributes.as_ref().map(|asked| asked.namespace.as_str());
            if let Some(asked) = asked.filter(|asked| *asked != namespace) {
                let why = "must match metadata.namespace";
                errors.push(Error::invalid(&what.child("namespace"), asked, why));
            }
            if spec.non_resource_attributes.is_some() {
                let asked = body["spec"]["nonResourceAttributes"].clone();
                let why = "disallowed on this kind of request";
                errors.push(Error::invalid(&path.child("nonResourceAttributes"), asked, why));
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            errors => Err(Status::invalid(&Gvk::new(AUTHORIZATION, "v1", self.kind()), "", errors)),
        }
    }
}

fn subject(spec: &Spec) -> User {
    User {
        name: spec.user.clone(),
        uid: spec.uid.clone(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default().into_iter().collect(),
    }
}

fn attributes<'a>(spec: &'a Spec, user: &'a User) -> Attributes<'a> {
    let none = Attributes {
        user,
        verb: "",
        group: "",
        version: "",
        resource: "",
        subresource: "",
        namespace: "",
        name: "",
        path: "",
    };
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(asked), _) => Attributes {
            verb: &asked.verb,
            group: &asked.group,
            version: &asked.version,
            resource: &asked.resource,
            subresource: &asked.subresource,
            namespace: &asked.namespace,
            name: &asked.name,
            ..none
        },
        (None, Some(asked)) => Attributes { verb: &asked.verb, path: &asked.path, ..none },
        (None, None) => none,
    }
}
