//! `metav1.Status`: every refusal, with the code, reason, message form and details that clients match on.
//!
//! The constructors are those of apimachinery's `errors` package, and word messages as it does.

use serde::{Deserialize, Serialize};

use crate::field;
use crate::gvr::{Gvk, Gvr};

/// An answer that is not an object: a failure, or the outcome of a deletion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `v1`.
    #[serde(default)]
    pub api_version: String,
    /// HTTP status code; 0 in a success, where bodies leave it out.
    #[serde(default, skip_serializing_if = "is_zero_code")]
    pub code: u16,
    /// What machines may need to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// Always `Status`.
    #[serde(default)]
    pub kind: String,
    /// What people read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// List metadata, almost always empty.
    #[serde(default)]
    pub metadata: Empty,
    /// A CamelCase word for the cause, as `NotFound`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `Success` or `Failure`.
    #[serde(default)]
    pub status: String,
}

/// List metadata of a Status: `{}` but for one case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Empty {
    /// With 410 to a paged list: a token to go on with, at the present revision.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

/// `details` of a Status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Every single error behind this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Group of the kind or resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind, or plural resource name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
    /// Identity of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero_code(n: &u16) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// One of several errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What people read.
    pub message: String,
    /// A CamelCase word for the cause.
    pub reason: String,
}

impl Status {
    /// A failure with nothing but code, reason and message.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            api_version: "v1".into(),
            code,
            details: None,
            kind: "Status".into(),
            message: message.into(),
            metadata: Empty::default(),
            reason: reason.into(),
            status: "Failure".into(),
        }
    }

    /// The answer to a deletion that removed the object.
    pub fn deleted(gvr: &Gvr, name: &str, uid: &str) -> Self {
        let details = Details { uid: uid.into(), ..about(gvr, name) };
        Self { code: 0, details: Some(details), status: "Success".into(), ..Self::failure(200, "", "") }
    }

    /// 404: the object does not exist.
    pub fn not_found(gvr: &Gvr, name: &str) -> Self {
        Self::about(404, "NotFound", gvr, name, format!("{} {name:?} not found", gvr.group_resource()))
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409: the name is taken.
    pub fn already_exists(gvr: &Gvr, name: &str) -> Self {
        Self::about(
            409,
            "AlreadyExists",
            gvr,
            name,
            format!("{} {name:?} already exists", gvr.group_resource()),
        )
    }

    /// 409: the object changed since it was read, or a rule about its present state forbids the change.
    pub fn conflict(gvr: &Gvr, name: &str, why: &str) -> Self {
        let resource = gvr.group_resource();
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::about(409, "Conflict", gvr, name, message)
    }

    /// 409 as an update with an old `resourceVersion` gets it.
    pub fn modified(gvr: &Gvr, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(gvr, name, why)
    }

    /// 403 with Kubernetes' wording for a resource.
    pub fn forbidden(gvr: &Gvr, name: &str, why: &str) -> Self {
        let resource = gvr.group_resource();
        let message = match name {
            "" => format!("{resource} is forbidden: {why}"),
            name => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::about(403, "Forbidden", gvr, name, message)
    }

    /// 422 with every field's error.
    pub fn invalid(gvk: &Gvk, name: &str, errors: &[field::Error]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let all = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes = errors
            .iter()
            .map(|e| Cause {
                field: e.path.as_str().into(),
                message: e.body.clone(),
                reason: e.reason.as_str().into(),
            })
            .collect();
        let details = Details {
            causes,
            group: gvk.group.to_string(),
            kind: gvk.kind.to_string(),
            name: name.into(),
            ..Details::default()
        };
        let message = format!("{} {name:?} is invalid: {all}", gvk.group_kind());
        Self { details: Some(details), ..Self::failure(422, "Invalid", message) }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401: who asks is not known.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource has no such verb.
    pub fn method_not_allowed() -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406: none of the accepted media types is served.
    pub fn not_acceptable(supported: &str) -> Self {
        let message = format!("only the following media types are accepted: {supported}");
        Self::failure(406, "NotAcceptable", message)
    }

    /// 410: the revision asked for is gone; list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 413: the body is over the limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, "RequestEntityTooLarge", message)
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(supported: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {supported}"
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self { details: Some(details), ..Self::failure(429, "TooManyRequests", message) }
    }

    /// 500: our fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        let details = Details { causes: vec![cause], ..Details::default() };
        let message = format!("Internal error occurred: {message}");
        Self { details: Some(details), ..Self::failure(500, "InternalError", message) }
    }

    /// 501: a part of the API that is not built yet.
    pub fn not_implemented(what: &str) -> Self {
        Self::failure(501, "NotImplemented", format!("{what} is not implemented by this server yet"))
    }

    /// 503: a part that the answer needs is not there now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 504: the server gave up waiting.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::failure(504, "Timeout", message)
    }

    /// Whether this is the given reason, as `NotFound`.
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// The JSON body.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Status holds only strings and numbers, which always encode")
    }

    fn about(code: u16, reason: &str, gvr: &Gvr, name: &str, message: String) -> Self {
        Self { details: Some(about(gvr, name)), ..Self::failure(code, reason, message) }
    }
}

fn about(gvr: &Gvr, name: &str) -> Details {
    Details {
        group: gvr.group.to_string(),
        kind: gvr.resource.to_string(),
        name: name.into(),
        ..Details::default()
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_kubernetes() {
        let deployments = Gvr::new("apps", "v1", "deployments");
        let gone = Status::not_found(&deployments, "web");
        assert_eq!((gone.code, gone.message.as_str()), (404, r#"deployments.apps "web" not found"#));
        let path = field::Path::new("spec").child("replicas");
        let errors = [field::Error::invalid(&path, -1, "must be greater than or equal to 0")];
        let bad = Status::invalid(&Gvk::new("apps", "v1", "Deployment"), "web", &errors);
        assert_eq!(
            bad.message,
            r#"Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#
        );
        assert_eq!(bad.details.unwrap().causes[0].reason, "FieldValueInvalid");
    }
}
