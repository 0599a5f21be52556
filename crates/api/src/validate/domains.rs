//! Names that begin with a domain: of webhooks, signers, and whoever manages an object.
//!
//! One wrong text may break several rules, and the value shown may be a part of it: each function adds its errors.

use super::names;
use crate::field::{Error, Errors, Path};

const SIGNER_MAX: usize = 253 + 1 + 253 + 63 + 1;

/// A domain of at least three segments, as `pods.hooks.example.com`.
pub fn fully_qualified_name(path: &Path, name: &str, errors: &mut Errors) {
    let found = names::dns1123_subdomain(name);
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !found.is_empty() {
        errors.push(Error::invalid(path, name, &found.join(",")));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(path, name, why));
    }
}

/// A domain and a path, as `example.com/controller`.
pub fn domain_prefixed_path(path: &Path, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((host, rest)) = name.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(Error::invalid(path, name, why));
        return;
    };
    errors.extend(names::dns1123_subdomain(host).iter().map(|why| Error::invalid(path, host, why)));
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(Error::invalid(path, rest, why));
    }
}

/// The name of a signer of certificates, as `example.com/signer`.
pub fn signer_name(path: &Path, name: &str, errors: &mut Errors) {
    let parts = name.split_once('/').filter(|(_, rest)| !rest.contains('/'));
    let Some((domain, rest)) = parts else {
        match name {
            "" => errors.push(Error::required(path, "")),
            _ => {
                let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
                errors.push(Error::invalid(path, name, why));
            }
        }
        return;
    };
    labels(path, domain, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, why));
    }
    labels(path, rest, errors);
    if name.len() > SIGNER_MAX {
        errors.push(Error::too_long(path, SIGNER_MAX));
    }
}

fn labels(path: &Path, text: &str, errors: &mut Errors) {
    for label in text.split('.') {
        for why in names::dns1123_label(label) {
            errors.push(Error::invalid(path, text, &format!("validating label {label:?}: {why}")));
        }
    }
}

/// A domain of which the first label stands for any, as `*.example.com`.
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let right = text.strip_prefix("*.").is_some_and(|rest| names::dns1123_subdomain(rest).is_empty());
    if right {
        return Vec::new();
    }
    vec![
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
         lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
         regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .into(),
    ]
}

/// A domain name in full, as an endpoint may have it.
pub fn fully_qualified_domain(path: &Path, name: &str, errors: &mut Errors) {
    let plain = name.strip_suffix('.').unwrap_or(name);
    let found = names::dns1123_subdomain(plain);
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !found.is_empty() {
        errors.push(Error::invalid(path, plain, &found.join(",")));
    } else if !plain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, plain, why));
    }
}
