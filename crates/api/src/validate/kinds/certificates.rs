//! Certificate signing requests and bundles of trust: names of signers, and what a certificate is for.

use super::here::Here;
use super::{At, Fields};
use crate::field::Errors;
use crate::validate::{domains, names};

const EXPIRATION_MIN_SECONDS: i64 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What is asked, and of whom. The request itself is read by those who can.
pub fn request(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.list("usages").is_empty() {
        here.required("usages", "");
    }
    for (index, usage) in here.texts("usages") {
        if !USAGES.contains(&usage) {
            let path = here.path("usages").index(index);
            here.errors.push(crate::field::Error::not_supported(&path, usage, USAGES));
        }
    }
    here.unique("usages");
    if here.text("signerName") == LEGACY_SIGNER {
        here.invalid("signerName", "the legacy signerName is not allowed via this API version");
    } else {
        domains::signer_name(&here.path("signerName"), here.text("signerName"), here.errors);
    }
    if here.number("expirationSeconds").is_some_and(|seconds| seconds < EXPIRATION_MIN_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        here.invalid("expirationSeconds", why);
    }
}

/// A bundle is named after its signer, if it has one.
pub fn bundle(at: &At<'_>, bundle: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, bundle, errors);
    let (name, signer) = (here.text("metadata.name"), here.text("spec.signerName"));
    if signer.is_empty() {
        if name.contains(':') {
            let why = "ClusterTrustBundle without signer name must not have \":\" in its name";
            here.invalid("metadata.name", why);
        } else {
            here.wrong("metadata.name", name, names::dns1123_subdomain(name));
        }
        return;
    }
    domains::signer_name(&here.path("spec.signerName"), signer, here.errors);
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(prefix.as_str()) {
        None => {
            let why =
                format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
            here.invalid("metadata.name", &why);
        }
        Some(rest) => here.wrong("metadata.name", name, names::dns1123_subdomain(rest)),
    }
}
