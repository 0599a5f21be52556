//! What is said: an AdmissionReview with a request, and what its response means. Pure.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Gvr, Map, Status, Value};

use super::super::{Operation, Review};
use super::matching;

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

/// Versions of AdmissionReview that this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first of a webhook's versions that is known here.
    pub(super) fn of(versions: &[Box<str>]) -> Option<Self> {
        versions.iter().find_map(|version| match version.as_ref() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// What is sent about the objects: JSON texts in the version that the webhook is told about.
#[derive(Default)]
pub(super) struct Objects<'a> {
    pub object: Option<&'a [u8]>,
    pub old: Option<&'a [u8]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: String,
    kind: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: Kind<'a>,
    resource: Named<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Named<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: Value,
    object: Option<&'a RawValue>,
    old_object: Option<&'a RawValue>,
    dry_run: bool,
    options: Value,
}

#[derive(Serialize)]
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
struct Named<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

fn kind(gvk: &Gvk) -> Kind<'_> {
    Kind { group: &gvk.group, version: &gvk.version, kind: &gvk.kind }
}

fn named(gvr: &Gvr) -> Named<'_> {
    Named { group: &gvr.group, version: &gvr.version, resource: &gvr.resource }
}

/// The kind of the body as a webhook is told: of a subresource with a kind of its own, that.
fn told_kind<'a>(review: &'a Review<'_>, told: &'a Arc<Resource>) -> &'a Gvk {
    match *review.gvk == review.resource.gvk {
        true => &told.gvk,
        false => told.subresource(review.subresource).map_or(review.gvk, |sub| &sub.gvk),
    }
}

/// The text of a review that asks about a request.
pub(super) fn question(
    version: Version,
    uid: &str,
    review: &Review<'_>,
    told: &Arc<Resource>,
    objects: &Objects<'_>,
) -> Result<Vec<u8>, serde_json::Error> {
    let request = Request {
        uid,
        kind: kind(told_kind(review, told)),
        resource: named(&told.gvr),
        sub_resource: review.subresource,
        request_kind: kind(review.gvk),
        request_resource: named(review.gvr),
        request_sub_resource: review.subresource,
        name: review.name,
        namespace: matching::namespace(review),
        operation: review.operation.as_str(),
        user_info: user(review),
        object: raw(objects.object)?,
        old_object: raw(objects.old)?,
        dry_run: review.dry_run,
        options: review.options.to_value(),
    };
    let api_version = format!("{GROUP}/{}", version.as_str());
    serde_json::to_vec(&Question { api_version, kind: KIND, request })
}

fn raw(json: Option<&[u8]>) -> Result<Option<&RawValue>, serde_json::Error> {
    json.map(serde_json::from_slice).transpose()
}

fn user(review: &Review<'_>) -> Value {
    let user = review.user;
    let mut info = Map::new();
    let mut put = |name: &str, value: Value| drop(info.insert(name.into(), value));
    if !user.name.is_empty() {
        put("username", user.name.as_str().into());
    }
    if !user.uid.is_empty() {
        put("uid", user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        put("groups", texts(&user.groups));
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(key, values)| (key.as_str(), texts(values)));
        put("extra", Value::Object(extra.collect()));
    }
    info.into()
}

fn texts(texts: &[String]) -> Value {
    texts.iter().map(|text| Value::from(text.as_str())).collect()
}

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub allowed: bool,
    /// `status`: why not.
    pub status: Option<Value>,
    /// The JSON patch, as text.
    pub patch: Vec<u8>,
    pub warnings: Vec<String>,
}

/// Why an answer cannot be used.
#[derive(Debug, PartialEq)]
pub(super) enum Unusable {
    /// It is no review.
    Unreadable(String),
    /// It does not fit the question.
    Wrong(String),
}

/// Reads a response. `mutating`: it may patch.
pub(super) fn answer(body: &[u8], version: Version, uid: &str, mutating: bool) -> Result<Answer, Unusable> {
    let wrong = |why: String| Err(Unusable::Wrong(why));
    let review = Value::from_json(body).map_err(|error| {
        Unusable::Unreadable(format!("couldn't get version/kind; json parse error: {error}"))
    })?;
    let Some(response) = review.get("response").filter(|response| response.is_object()) else {
        return wrong("webhook response was absent".to_owned());
    };
    if version == Version::V1 {
        check(&review, response, uid, mutating)?;
    }
    let Ok(patch) = STANDARD.decode(text(response, "patch").replace(['\r', '\n'], "")) else {
        return Err(Unusable::Unreadable("illegal base64 data in response.patch".to_owned()));
    };
    let warnings = response.get("warnings").and_then(Value::as_array).into_iter().flatten();
    Ok(Answer {
        allowed: response.get("allowed").and_then(Value::as_bool).unwrap_or_default(),
        status: response.get("status").filter(|status| status.is_object()).cloned(),
        patch,
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What version 1 demands of a response.
fn check(review: &Value, response: &Value, uid: &str, mutating: bool) -> Result<(), Unusable> {
    let wrong = |why: String| Err(Unusable::Wrong(why));
    let given = text(response, "uid");
    if given != uid {
        return wrong(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let gvk = Gvk::from_api_version(text(review, "apiVersion"), text(review, "kind"));
    if (gvk.group.as_ref(), gvk.version.as_ref(), gvk.kind.as_ref()) != (GROUP, "v1", KIND) {
        let got = format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind);
        return wrong(format!("expected webhook response of {GROUP}/v1, Kind={KIND}, got {got}"));
    }
    let patch = !text(response, "patch").is_empty();
    let form = response.get("patchType").and_then(Value::as_str);
    match (mutating, patch, form) {
        (_, false, None) | (true, true, Some("JSONPatch")) => Ok(()),
        (true, true, None) => wrong("webhook returned response.patch but not response.patchType".to_owned()),
        (true, false, Some(_)) => {
            wrong("webhook returned response.patchType but not response.patch".to_owned())
        }
        (true, true, Some(form)) => wrong(format!("webhook returned invalid response.patchType of {form:?}")),
        (false, true, _) => wrong("validating webhook may not return response.patch".to_owned()),
        (false, false, Some(_)) => wrong("validating webhook may not return response.patchType".to_owned()),
    }
}

/// A webhook's no, as the client is told.
pub(super) fn denial(name: &str, status: Option<&Value>) -> Status {
    let told = status.and_then(|status| status.to::<Status>().ok());
    let mut denial = told.unwrap_or_else(|| Status::failure(0, "", ""));
    "v1".clone_into(&mut denial.api_version);
    "Status".clone_into(&mut denial.kind);
    "Failure".clone_into(&mut denial.status);
    denial.code = denial.code.max(400);
    let why = if denial.message.is_empty() { &denial.reason } else { &denial.message };
    denial.message = match why.as_str() {
        "" => format!("admission webhook {name:?} denied the request without explanation"),
        why => format!("admission webhook {name:?} denied the request: {why}"),
    };
    denial
}

impl Operation {
    /// As webhooks and policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}
