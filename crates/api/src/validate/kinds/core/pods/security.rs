//! Security contexts of pods and containers.

use crate::Value;

use super::{At, Fields, flag, list, number, object, text};
use super::{as_value, judge};
use crate::field::{Error, Errors, Path};
use crate::validate::{forms, names};

/// Bytes of an AppArmor profile's path: one less than Linux' longest path.
const PROFILE_MAX_BYTES: usize = 4095;
/// Users and groups are what fits a C `int` and is not negative.
const ID_MAX: i64 = i32::MAX as i64;

fn id(at: &At<'_>, fields: &Fields, name: &str, errors: &mut Errors) {
    if let Some(id) = number(fields, name) {
        id_in_range(id, &|| at.path().child(name), errors);
    }
}

fn id_in_range(id: i64, path: &dyn Fn() -> Path, errors: &mut Errors) {
    if !(0..=ID_MAX).contains(&id) {
        errors.push(Error::invalid(&path(), id, "must be between 0 and 2147483647, inclusive"));
    }
}

/// Identities and kernel settings of all containers of a pod.
pub(super) fn pod_context(at: &At<'_>, context: &Fields, errors: &mut Errors) {
    if context.is_empty() {
        return;
    }
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(at, context, name, errors);
    }
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        let path = || at.path().child("supplementalGroups").index(index);
        id_in_range(group.as_i64().unwrap_or(0), &path, errors);
    }
    sysctls(at, context, errors);
}

fn sysctls(at: &At<'_>, context: &Fields, errors: &mut Errors) {
    const FORM: &str = "must have at most 253 characters and match regex \
        ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = super::Seen::new();
    for (index, setting) in super::items(context, "sysctls") {
        let name = text(setting, "name");
        let path = || at.path().child("sysctls").index(index).child("name");
        if name.is_empty() {
            continue;
        }
        if !is_sysctl(name) {
            errors.push(Error::invalid(&path(), name, FORM));
        } else if seen.has(name) {
            errors.push(Error::duplicate(&path(), name));
        }
        seen.add(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.first().copied().is_some_and(plain)
                && bytes.last().copied().is_some_and(plain)
                && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
        })
}

/// Identities and rights of one container.
pub(super) fn container_context(at: &At<'_>, context: &Fields, errors: &mut Errors) {
    id(at, context, "runAsUser", errors);
    id(at, context, "runAsGroup", errors);
    if context.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)) {
        return;
    }
    if flag(context, "privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(Error::invalid(&at.path(), as_value(context), why));
    }
    let added = object(context, "capabilities").map(|capabilities| list(capabilities, "add"));
    if added.into_iter().flatten().any(|name| name == "CAP_SYS_ADMIN") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.push(Error::invalid(&at.path(), as_value(context), why));
    }
}

/// A seccomp profile on the node is named by its path there.
pub(super) fn seccomp(at: &At<'_>, profile: &Fields, errors: &mut Errors) {
    let path = || at.path().child("localhostProfile");
    match (text(profile, "type"), profile.get("localhostProfile").and_then(Value::as_str)) {
        ("", _) => {
            let why = "type is required when seccompProfile is set";
            errors.push(Error::required(&at.path().child("type"), why));
        }
        ("Localhost", None) => {
            errors.push(Error::required(&path(), "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(name)) => judge(forms::descending(name), name, errors, path),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(Error::invalid(&path(), as_value(profile), why));
        }
        _ => {}
    }
}

/// The same for AppArmor.
pub(super) fn app_armor(at: &At<'_>, profile: &Fields, errors: &mut Errors) {
    let path = || at.path().child("localhostProfile");
    match (text(profile, "type"), profile.get("localhostProfile").and_then(Value::as_str)) {
        ("", _) => {
            let why = "type is required when appArmorProfile is set";
            errors.push(Error::required(&at.path().child("type"), why));
        }
        ("Localhost", None | Some("")) => {
            errors.push(Error::required(&path(), "must be set when AppArmor type is Localhost"));
        }
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.push(Error::invalid(&path(), name, "must not be padded with whitespace"));
            }
            if name.len() > PROFILE_MAX_BYTES {
                errors.push(Error::too_long(&path(), PROFILE_MAX_BYTES));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let why = "can only be set when AppArmor type is Localhost";
            errors.push(Error::invalid(&path(), name, why));
        }
        _ => {}
    }
}

/// Windows' own settings: the credential spec and the user.
pub(super) fn windows_options(at: &At<'_>, options: &Fields, errors: &mut Errors) {
    const SPEC_MAX_BYTES: usize = 64 * 1024;
    if let Some(name) = options.get("gmsaCredentialSpecName").and_then(Value::as_str) {
        judge(names::dns1123_subdomain(name), name, errors, || at.path().child("gmsaCredentialSpecName"));
    }
    if let Some(spec) = options.get("gmsaCredentialSpec").and_then(Value::as_str) {
        let why = match spec.len() {
            0 => "gmsaCredentialSpec cannot be an empty string",
            1..=SPEC_MAX_BYTES => "",
            _ => "gmsaCredentialSpec size must be under 64 KiB",
        };
        if !why.is_empty() {
            errors.push(Error::invalid(&at.path().child("gmsaCredentialSpec"), spec, why));
        }
    }
    if let Some(user) = options.get("runAsUserName").and_then(Value::as_str) {
        let found = windows_user(user).into_iter().map(str::to_owned).collect();
        judge(found, user, errors, || at.path().child("runAsUserName"));
    }
}

/// What is wrong with `DOMAIN\USER` or `USER`.
fn windows_user(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = name.splitn(3, '\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut found = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= 256) {
        found.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns_domain(domain)) {
        found.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    match user.len() {
        0 => found.push("runAsUserName's User cannot be empty"),
        1..=104 => {}
        _ => found.push("runAsUserName's User length must not be longer than 104 characters"),
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        found.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        found.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    found
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn is_dns_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}
