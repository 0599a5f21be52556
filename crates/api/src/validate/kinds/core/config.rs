//! Config maps and secrets: what their users look for, and how much they hold.

use crate::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{At, Fields, object, text, under};
use crate::field::{Error, Errors, Path};

/// All values of one config map or secret together.
const DATA_MAX_BYTES: usize = 1024 * 1024;

fn sizes(fields: &Fields, name: &str, size: fn(&str) -> usize) -> usize {
    object(fields, name).into_iter().flatten().filter_map(|(_, value)| value.as_str()).map(size).sum()
}

/// Bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take(2).filter(|b| *b == b'=').count();
    text.len() / 4 * 3 - padding.min(text.len() / 4 * 3)
}

/// A key is of one kind, and all fits.
pub(super) fn config_map(at: &At<'_>, map: &Fields, errors: &mut Errors) {
    for key in object(map, "binaryData").into_iter().flat_map(Fields::keys) {
        if object(map, "data").is_some_and(|data| data.contains_key(key)) {
            let path = at.path().child("data").key(key);
            errors.push(Error::invalid(&path, key.as_str(), "duplicate of key present in binaryData"));
        }
    }
    if sizes(map, "data", str::len) + sizes(map, "binaryData", decoded_len) > DATA_MAX_BYTES {
        errors.push(Error::too_long(&Path::new(""), DATA_MAX_BYTES));
    }
}

/// Secrets of known types hold what their users look for.
pub(super) fn secret(at: &At<'_>, secret: &Fields, errors: &mut Errors) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let path = || at.path().child("data");
    if sizes(secret, "data", decoded_len) > DATA_MAX_BYTES {
        errors.push(Error::too_long(&path(), DATA_MAX_BYTES));
    }
    let value = |key: &str| object(secret, "data")?.get(key)?.as_str();
    let mut need = |key: &str| errors.push(Error::required(&path().key(key), ""));
    match text(secret, "type") {
        "kubernetes.io/dockercfg" => match value(".dockercfg") {
            None => need(".dockercfg"),
            Some(text) => json(text, &|| path().key(".dockercfg"), errors),
        },
        "kubernetes.io/dockerconfigjson" => match value(".dockerconfigjson") {
            None => need(".dockerconfigjson"),
            Some(text) => json(text, &|| path().key(".dockerconfigjson"), errors),
        },
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(str::is_empty) => {
            need("ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| value(key).is_none()) {
                need(key);
            }
        }
        "kubernetes.io/service-account-token" => {
            let metadata = object(secret, "metadata").and_then(|metadata| object(metadata, "annotations"));
            if metadata.is_none_or(|notes| text(notes, ACCOUNT).is_empty()) {
                errors.push(Error::required(&under(at, "metadata.annotations").key(ACCOUNT), ""));
            }
        }
        _ => {}
    }
}

fn json(encoded: &str, path: &dyn Fn() -> Path, errors: &mut Errors) {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let why = match Value::from_json(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(_) => "json: cannot unmarshal into Go value of type map[string]interface {}".to_owned(),
        Err(_) if bytes.is_empty() => "unexpected end of JSON input".to_owned(),
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(_) => invalid_character(&bytes),
    };
    errors.push(Error::invalid(&path(), "<secret contents redacted>", &why));
}

/// What Go says of the first character that no value starts with.
fn invalid_character(bytes: &[u8]) -> String {
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace()).copied().unwrap_or_default();
    format!("invalid character {:?} looking for beginning of value", char::from(first))
}
