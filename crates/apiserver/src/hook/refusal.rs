//! What went wrong, in the words of Go's HTTP and Kubernetes' REST clients.

use std::error::Error;
use std::io;

use http::StatusCode;
use http_body_util::LengthLimitError;
use rustls::CertificateError;
use tiphys_api::Value;

use super::{ANSWER_MAX, HookError};
use crate::node_proxy::connect::ConnectError;

/// Why an exchange failed: the cause that says most.
pub fn cause(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = tiphys_client::remote::tls_error(error) {
        return tls_cause(&tls);
    }
    let mut last = error;
    loop {
        if let Some(text) = known(last) {
            return text;
        }
        match last.source() {
            Some(source) => last = source,
            None => return last.to_string(),
        }
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<String> {
    if error.is::<LengthLimitError>() {
        return Some(too_large());
    }
    if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
        return Some("EOF".to_owned());
    }
    match error.downcast_ref::<ConnectError>()? {
        ConnectError::Dial { address, source } => Some(format!("dial tcp {address}: {}", dial(source))),
        other => Some(other.to_string()),
    }
}

pub(super) fn too_large() -> String {
    format!("the answer is larger than {ANSWER_MAX} bytes")
}

fn dial(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_cause(error: &rustls::Error) -> String {
    let why = match error {
        // Another CA of the same name is an unknown one, too.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "x509: certificate signed by unknown authority".to_owned(),
        rustls::Error::InvalidCertificate(why) => format!("x509: {why}"),
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}

/// A webhook's refusal: its own `Status`, or what the code means.
pub(super) fn refused(code: StatusCode, body: &[u8]) -> HookError {
    let told = Value::from_json(body).ok().filter(|told| {
        told.get("kind").is_some_and(|kind| kind == "Status")
            && told.get("status").is_none_or(|status| status != "Success")
    });
    let told = told.as_ref().and_then(|told| told.get("message")).and_then(Value::as_str);
    let text = String::from_utf8_lossy(body);
    let message = told.map_or_else(|| meaning(code, text.trim()), str::to_owned);
    HookError::Refused { code: code.as_u16(), message }
}

fn meaning(code: StatusCode, text: &str) -> String {
    let fixed = match code.as_u16() {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 if text.is_empty() => "the server does not allow access to the requested resource",
        403 => text,
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        406 | 415 if !text.is_empty() => text,
        409 => "the server reported a conflict",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        code if code < 500 => {
            return format!(
                "the server responded with the status code {code} but did not return more information"
            );
        }
        _ => {
            let text = if text.is_empty() { "unknown" } else { text };
            return format!("an error on the server ({text:?}) has prevented the request from succeeding");
        }
    };
    fixed.to_owned()
}
