//! Query parameters (and the body of a DELETE) as the registry's parameters, checked as apimachinery checks its
//! `CreateOptions`, `PatchOptions`, `DeleteOptions` and `ListOptions`.

use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tiphys_api::field::{Error as FieldError, Errors, Path};
use tiphys_api::{Gvk, Status};

use super::negotiate::{BodyForm, essence};
use super::query::Query;
use crate::registry::{
    DeleteParams, FieldValidation, ListParams, PatchType, Propagation, WatchParams, WriteParams,
    check_manager,
};

/// The patch media types, as the message of a 415 names them.
const PATCH_TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
     application/strategic-merge-patch+json, application/apply-patch+yaml, application/apply-patch+cbor";

/// Those of custom resources: nobody says how their lists merge strategically.
const CUSTOM_PATCH_TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
     application/apply-patch+yaml, application/apply-patch+cbor";

/// The form of a patch by its `Content-Type`.
pub fn patch_type(headers: &HeaderMap, custom: bool) -> Result<(PatchType, BodyForm), Status> {
    match essence(headers) {
        "application/json-patch+json" => Ok((PatchType::Json, BodyForm::Json)),
        "application/merge-patch+json" => Ok((PatchType::Merge, BodyForm::Json)),
        "application/strategic-merge-patch+json" if !custom => Ok((PatchType::Strategic, BodyForm::Json)),
        "application/apply-patch+yaml" => Ok((PatchType::Apply, BodyForm::Yaml)),
        "application/apply-patch+cbor" => Ok((PatchType::Apply, BodyForm::Cbor)),
        _ if custom => Err(Status::unsupported_media_type(CUSTOM_PATCH_TYPES)),
        _ => Err(Status::unsupported_media_type(PATCH_TYPES)),
    }
}

/// Which options kind a write has: its name heads the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH other than apply.
    Patch,
    /// PATCH as server-side apply.
    Apply,
}

/// The parameters of create, update and patch.
pub fn write(query: &Query, headers: &HeaderMap, write: Write) -> Result<WriteParams, Status> {
    let mut errors = Errors::new();
    let dry_run = dry_run(query.all("dryRun"), &mut errors);
    let field_validation = field_validation(query.text("fieldValidation"), &mut errors);
    let force = query.switch("force");
    let manager = query.text("fieldManager");
    check_apply(write, query, manager, &mut errors);
    check_manager(manager, &mut errors);
    let kind = match write {
        Write::Create => "CreateOptions",
        Write::Update => "UpdateOptions",
        Write::Patch | Write::Apply => "PatchOptions",
    };
    refuse(kind, &errors)?;
    let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (field_manager, user_agent) = (manager.to_owned(), user_agent.to_owned());
    Ok(WriteParams { field_manager, user_agent, force, dry_run, field_validation, protobuf: false })
}

fn check_apply(write: Write, query: &Query, manager: &str, errors: &mut Errors) {
    if write == Write::Apply && manager.is_empty() {
        errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
    }
    if write != Write::Apply && write == Write::Patch && query.get("force").is_some() {
        errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Errors) -> bool {
    let mut dry = false;
    for value in values.filter(|value| !value.is_empty()) {
        match value {
            "All" => dry = true,
            other => errors.push(FieldError::not_supported(&Path::new("dryRun"), other, &["All"])),
        }
    }
    dry
}

fn field_validation(value: &str, errors: &mut Errors) -> FieldValidation {
    match value {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            let allowed = ["Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported(&Path::new("fieldValidation"), other, &allowed));
            FieldValidation::Warn
        }
    }
}

fn refuse(kind: &'static str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", kind), "", errors))
}

/// The parameters of list and of what `deletecollection` selects.
pub fn list(query: &Query) -> Result<ListParams, Status> {
    if query.get("sendInitialEvents").is_some_and(|value| !value.is_empty()) {
        let path = Path::new("sendInitialEvents");
        let error = FieldError::forbidden(&path, "sendInitialEvents is forbidden for list");
        refuse("ListOptions", &[error])?;
    }
    Ok(ListParams {
        labels: query.text("labelSelector").to_owned(),
        fields: query.text("fieldSelector").to_owned(),
        limit: number(query, "limit")?.unwrap_or(0).try_into().unwrap_or(0),
        continue_token: query.text("continue").to_owned(),
        resource_version: query.text("resourceVersion").to_owned(),
        resource_version_match: query.text("resourceVersionMatch").to_owned(),
    })
}

/// The parameters of watch.
pub fn watch(query: &Query) -> Result<WatchParams, Status> {
    let seconds = number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(WatchParams {
        labels: query.text("labelSelector").to_owned(),
        fields: query.text("fieldSelector").to_owned(),
        resource_version: query.text("resourceVersion").to_owned(),
        resource_version_match: query.text("resourceVersionMatch").to_owned(),
        bookmarks: query.switch("allowWatchBookmarks"),
        send_initial_events: query.get("sendInitialEvents").map(|_| query.switch("sendInitialEvents")),
        timeout: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    match query.get(name) {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}

/// `metav1.DeleteOptions` as bodies carry them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    kind: String,
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// The parameters of delete, and what an answer about an object that lives on for a while is: 202 for who says that
/// dependents are to go (`orphanDependents: false`), else 200. The body counts when there is one, else the query. `body`
/// is JSON.
pub fn delete(query: &Query, body: &[u8]) -> Result<(DeleteParams, StatusCode), Status> {
    let options = match body.iter().all(u8::is_ascii_whitespace) {
        true => options_of_query(query)?,
        false => serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("the DeleteOptions could not be read: {error}")))?,
    };
    let code = if options.orphan_dependents == Some(false) { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((delete_params(options)?, code))
}

fn options_of_query(query: &Query) -> Result<DeleteOptions, Status> {
    let dry_run: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
    Ok(DeleteOptions {
        kind: String::new(),
        grace_period_seconds: number(query, "gracePeriodSeconds")?,
        preconditions: None,
        orphan_dependents: query.get("orphanDependents").map(|_| query.switch("orphanDependents")),
        propagation_policy: query.get("propagationPolicy").map(str::to_owned),
        dry_run: Some(dry_run),
    })
}

fn delete_params(options: DeleteOptions) -> Result<DeleteParams, Status> {
    if !matches!(options.kind.as_str(), "" | "DeleteOptions") {
        let kind = &options.kind;
        return Err(Status::bad_request(format!(
            "the body of a deletion must be DeleteOptions, not {kind:?}"
        )));
    }
    let mut errors = Errors::new();
    let dry_run = dry_run(options.dry_run.iter().flatten().map(String::as_str), &mut errors);
    let propagation = propagation(&options, &mut errors);
    refuse("DeleteOptions", &errors)?;
    let preconditions = options.preconditions.unwrap_or_default();
    Ok(DeleteParams {
        grace_period_seconds: options.grace_period_seconds,
        propagation,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version,
        dry_run,
    })
}

fn propagation(options: &DeleteOptions, errors: &mut Errors) -> Option<Propagation> {
    let path = Path::new("propagationPolicy");
    if options.propagation_policy.is_some() && options.orphan_dependents.is_some() {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(
            &path,
            options.propagation_policy.as_deref().unwrap_or_default(),
            detail,
        ));
        return None;
    }
    match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (None, None) => None,
        (Some(other), _) => {
            errors.push(FieldError::not_supported(&path, other, &["Background", "Foreground", "Orphan"]));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_options_are_refused_with_every_error() {
        let query = Query::parse("dryRun=Some&fieldValidation=Maybe");
        let status = write(&query, &HeaderMap::new(), Write::Create).unwrap_err();
        assert_eq!(status.code, 422);
        assert_eq!(status.details.unwrap().causes.len(), 2);
        let status = write(&Query::default(), &HeaderMap::new(), Write::Apply).unwrap_err();
        assert!(status.message.contains("fieldManager: Required value"), "{}", status.message);
    }

    #[test]
    fn a_deletion_reads_its_body_before_its_query() {
        let query = Query::parse("gracePeriodSeconds=5&propagationPolicy=Orphan");
        let (params, code) = delete(&query, b"").unwrap();
        assert_eq!(code, StatusCode::OK);
        assert_eq!((params.grace_period_seconds, params.propagation), (Some(5), Some(Propagation::Orphan)));
        let body =
            br#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"u"},"dryRun":["All"]}"#;
        let (params, _) = delete(&query, body).unwrap();
        assert_eq!(
            (params.grace_period_seconds, params.uid.as_deref(), params.dry_run),
            (None, Some("u"), true)
        );
        let old = delete(&Query::parse("orphanDependents=false"), b"").unwrap();
        assert_eq!((old.0.propagation, old.1), (Some(Propagation::Background), StatusCode::ACCEPTED));
        assert_eq!(delete(&query, br#"{"kind":"Pod"}"#).unwrap_err().code, 400);
        assert_eq!(delete(&query, br#"{"propagationPolicy":"x"}"#).unwrap_err().code, 422);
    }

    #[test]
    fn numbers_must_be_numbers() {
        assert_eq!(list(&Query::parse("limit=x")).unwrap_err().code, 400);
        assert_eq!(list(&Query::parse("limit=500")).unwrap().limit, 500);
        assert_eq!(watch(&Query::parse("timeoutSeconds=5")).unwrap().timeout, Some(Duration::from_secs(5)));
    }
}
