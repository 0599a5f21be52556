//! Certificate signing requests: who asks is written down by the server, and what is asked never changes. Approval and
//! certificate come through subresources of their own, and stay.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate::Seen;
use x509_parser::asn1_rs::Oid;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::Rules;
use crate::auth::User;
use crate::registry::tree;

pub(super) const REQUESTS: Rules =
    Rules { on_create, on_update, validate_create, validate_update, ..Rules::DEFAULT };

/// Conditions that are true if they are there at all, and never go.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];

fn on_create(request: &mut Value, user: &User) {
    let uid = if user.uid.is_empty() { Value::Null } else { user.uid.as_str().into() };
    let extra: tiphys_api::Map =
        user.extra.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect();
    let extra = if extra.is_empty() { Value::Null } else { extra.into() };
    for (name, value) in [
        ("username", user.name.as_str().into()),
        ("uid", uid),
        ("groups", user.groups.clone().into()),
        ("extra", extra),
    ] {
        tree::set(request, &["spec", name], value);
    }
    tree::set(request, &["status"], tiphys_api::json!({}));
}

fn on_update(request: &mut Value, old: &Value, subresource: &str) {
    tree::set(request, &["spec"], tree::at(old, &["spec"]).clone());
    if !subresource.is_empty() {
        date_conditions(request, old);
    }
}

/// Conditions that come without times get them: when they were written, and when their status last changed.
fn date_conditions(request: &mut Value, old: &Value) {
    let before = tree::items(old, &["status", "conditions"]);
    let conditions = request.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    let now = tree::time(Timestamp::now());
    for condition in conditions.into_iter().flatten() {
        let same = |c: &&Value| {
            ["type", "status"].iter().all(|key| tree::at(c, &[key]) == tree::at(condition, &[key]))
        };
        let known = before.iter().find(same).map(|c| tree::at(c, &["lastTransitionTime"]).clone());
        let changed = known.filter(|time| !time.is_null()).unwrap_or_else(|| now.clone());
        for (name, time) in [("lastUpdateTime", now.clone()), ("lastTransitionTime", changed)] {
            if tree::at(condition, &[name]).is_null() {
                tree::set(condition, &[name], time);
            }
        }
    }
}

/// What is asked never changes, so it is read once.
fn validate_create(request: &Value, errors: &mut Errors) {
    let text = tree::text(request, &["spec", "request"]);
    if let Err(why) = signed(text) {
        errors.push(Error::invalid(&Path::new("spec").child("request"), text, why));
    }
}

/// A PKCS#10 request in PEM, behind Base64: signed with the key that it is about, so that nobody gets a certificate for
/// somebody else's.
fn signed(text: &str) -> Result<(), &'static str> {
    const NOT_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
    const NOT_DER: &str = "asn1: structure error: malformed request";
    let bytes = STANDARD.decode(text).map_err(|_| NOT_PEM)?;
    let block = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok).ok_or(NOT_PEM)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(NOT_PEM);
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents).map_err(|_| NOT_DER)?;
    if !rest.is_empty() {
        return Err("x509: trailing data");
    }
    let verified = match request.verify_signature() {
        Err(X509Error::SignatureUnsupportedAlgorithm) => {
            signed_on_curve(&request).ok_or("x509: cannot verify signature: algorithm unimplemented")?
        }
        other => other.is_ok(),
    };
    if verified { Ok(()) } else { Err("x509: the signature is not that of the request's own key") }
}

/// Whether the signature is right, by the curves and digests that TLS knows (as P-521); `None`: it is none of those.
fn signed_on_curve(request: &X509CertificationRequest<'_>) -> Option<bool> {
    let (info, signature) = (&request.certification_request_info, &request.signature_algorithm.algorithm);
    let key = &info.subject_pki;
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let (signature, public) = (der(signature)?, [der(&key.algorithm.algorithm)?, der(&curve)?].concat());
    let known = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let algorithm = known.all.iter().find(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signature && algorithm.public_key_alg_id().as_ref() == public
    })?;
    Some(
        algorithm
            .verify_signature(&key.subject_public_key.data, info.raw, &request.signature_value.data)
            .is_ok(),
    )
}

/// An identifier as it is written within a larger one.
fn der(oid: &Oid<'_>) -> Option<Vec<u8>> {
    let bytes = oid.as_bytes();
    Some([&[6, u8::try_from(bytes.len()).ok()?], bytes].concat())
}

fn conditions(request: &Value) -> &[Value] {
    tree::items(request, &["status", "conditions"])
}

fn of_type<'r>(request: &'r Value, kind: &str) -> Vec<&'r Value> {
    conditions(request).iter().filter(|condition| tree::text(condition, &["type"]) == kind).collect()
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    if conditions(new) != conditions(old) {
        forms(new, &path, errors);
        changes(new, old, subresource, &path, errors);
    }
    certificate(new, old, subresource, errors);
}

fn forms(new: &Value, path: &Path, errors: &mut Errors) {
    let mut before = Seen::new();
    for (index, condition) in conditions(new).iter().enumerate() {
        let (own, status) = (tree::text(condition, &["type"]), tree::text(condition, &["status"]));
        let at = |name| path.index(index).child(name);
        if own.is_empty() {
            errors.push(Error::required(&at("type"), ""));
        }
        let decided = DECISIONS.contains(&own);
        let allowed: &[&str] = if decided { &["True"] } else { &["False", "True", "Unknown"] };
        if status.is_empty() {
            errors.push(Error::required(&at("status"), ""));
        } else if !allowed.contains(&status) {
            errors.push(Error::not_supported(&at("status"), status, allowed));
        }
        let opposite = match own {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !opposite.is_empty() && before.has(opposite) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&at("type"), own, why));
        }
        if !before.add(own) {
            errors.push(Error::duplicate(&at("type"), own));
        }
    }
}

/// Decisions stay, and only who may approve makes or changes them.
fn changes(new: &Value, old: &Value, subresource: &str, path: &Path, errors: &mut Errors) {
    for kind in DECISIONS {
        let (wanted, before) = (of_type(new, kind), of_type(old, kind));
        let approves = kind == "Failed" || subresource == "approval";
        let why = if wanted.len() < before.len() {
            format!("updates may not remove a condition of type {kind:?}")
        } else if approves || wanted == before {
            continue;
        } else if wanted.len() > before.len() {
            format!("updates may not add a condition of type {kind:?}")
        } else {
            format!("updates may not modify a condition of type {kind:?}")
        };
        errors.push(Error::forbidden(path, &why));
    }
}

fn certificate(new: &Value, old: &Value, subresource: &str, errors: &mut Errors) {
    let of = |request| tree::text(request, &["status", "certificate"]);
    let (wanted, before) = (of(new), of(old));
    if wanted == before {
        return;
    }
    let path = Path::new("status").child("certificate");
    if subresource != "status" {
        errors.push(Error::forbidden(&path, "updates may not set certificate content"));
    } else if !before.is_empty() {
        errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
    }
    if let Err(why) = certificates(wanted) {
        errors.push(Error::invalid(&path, "<certificate data>", &why));
    }
}

/// Certificates in PEM, and nothing else.
fn certificates(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(&bytes) {
        // What stands behind a broken block would never be looked at.
        let block = block.map_err(|error| format!("a PEM block is malformed: {error}"))?;
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.parse_x509().is_err() {
            return Err("x509: malformed certificate".into());
        }
        blocks += 1;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}
