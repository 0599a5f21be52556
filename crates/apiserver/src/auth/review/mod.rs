//! Resources that only answer a question and store nothing: who am I, may I, may they, whose token is this.
//!
//! Each is a [`Computed`] of the registry; [`all`] lists them for its configuration.

mod access;
mod identity;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Deserialize;
use tiphys_api::{Status, Value};

use super::{Authorizer, Rbac, ServiceAccountTokens, User};
use crate::registry::Computed;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// A computed resource: group, `resource` or `resource/subresource`, and who computes.
pub type Entry = (&'static str, &'static str, Arc<dyn Computed>);

/// All reviews, and `serviceaccounts/token`.
pub fn all(
    authorizer: &Arc<dyn Authorizer>,
    rbac: &Arc<Rbac>,
    tokens: &Arc<ServiceAccountTokens>,
) -> Vec<Entry> {
    use access::{AccessReview, Whose};
    let access =
        |whose| -> Arc<dyn Computed> { Arc::new(AccessReview { whose, authorizer: authorizer.clone() }) };
    vec![
        (AUTHORIZATION, "subjectaccessreviews", access(Whose::Anyone)),
        (AUTHORIZATION, "localsubjectaccessreviews", access(Whose::AnyoneHere)),
        (AUTHORIZATION, "selfsubjectaccessreviews", access(Whose::Own)),
        (AUTHORIZATION, "selfsubjectrulesreviews", Arc::new(rules::RulesReview(rbac.clone()))),
        (AUTHENTICATION, "tokenreviews", Arc::new(identity::TokenReview(tokens.clone()))),
        (AUTHENTICATION, "selfsubjectreviews", Arc::new(identity::SelfReview)),
        ("", "serviceaccounts/token", tokens.clone()),
    ]
}

/// Decodes the `spec` of a review.
fn spec<T: for<'de> Deserialize<'de> + Default>(body: &Value) -> Result<T, Status> {
    match body.get("spec") {
        None | Some(Value::Null) => Ok(T::default()),
        Some(spec) => T::deserialize(spec).map_err(|error| Status::bad_request(error.to_string())),
    }
}

/// `authentication/v1` UserInfo.
fn user_info(user: &User) -> Value {
    let mut info = tiphys_api::Map::new();
    info.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(key, values)| (key.clone(), Value::from(values.clone())));
        info.insert("extra".into(), Value::Object(extra.collect()));
    }
    info.into()
}
