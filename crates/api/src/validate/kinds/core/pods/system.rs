//! What a pod shares with its host, how it finds names, and which system it is for.

use crate::Value;

use super::judge;
use super::{At, CONTAINERS, Fields, flag, items, list, object, text, texts, under};
use crate::field::{Error, Errors, Path};
use crate::validate::{forms, names};

/// Linux' name resolution knows no more servers.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_MAX: usize = 2048;

/// A pod that shares the host's processes does not share its own as well.
pub(super) fn processes(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&under(at, "securityContext.shareProcessNamespace"), true, why));
    }
}

/// What does not go together with users of the pod's own.
pub(super) fn user_namespaces(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if spec.get("hostUsers") != Some(&Value::Bool(false)) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            let why = "when `pod.Spec.HostUsers` is false";
            errors.push(Error::forbidden(&at.path().child(shown), why));
        }
    }
}

/// A pod that is not told where names are resolved says so itself.
pub(super) fn dns_policy(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    if text(spec, "dnsPolicy") != "None" {
        return;
    }
    let path = at.path().child("dnsConfig");
    match object(spec, "dnsConfig") {
        None => errors.push(Error::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None")),
        Some(config) if list(config, "nameservers").is_empty() => {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&path.child("nameservers"), why));
        }
        Some(_) => {}
    }
}

/// Servers, search paths and options fit what resolvers take.
pub(super) fn dns_config(at: &At<'_>, config: &Fields, errors: &mut Errors) {
    let (servers, searches) = (list(config, "nameservers"), list(config, "searches"));
    let path = |name: &str| at.path().child(name);
    if servers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(Error::invalid(&path("nameservers"), servers.to_vec(), &why));
    }
    for (index, server) in texts(config, "nameservers") {
        judge(forms::ip(server), server, errors, || path("nameservers").index(index));
    }
    if searches.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(Error::invalid(&path("searches"), searches.to_vec(), &why));
    }
    let length: usize = texts(config, "searches").map(|(_, search)| search.len() + 1).sum();
    if length.saturating_sub(1) > SEARCH_LIST_MAX {
        let why = format!(
            "must not have more than {SEARCH_LIST_MAX} characters (including spaces) in the search list"
        );
        errors.push(Error::invalid(&path("searches"), searches.to_vec(), &why));
    }
    for (index, search) in texts(config, "searches").filter(|(_, search)| *search != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        judge(names::search_path(name), name, errors, || path("searches").index(index));
    }
    for (index, option) in items(config, "options") {
        if text(option, "name").is_empty() {
            errors.push(Error::required(&path("options").index(index), "must not be empty"));
        }
    }
}

/// An alias gives names to an address.
pub(super) fn host_alias(at: &At<'_>, alias: &Fields, errors: &mut Errors) {
    let ip = text(alias, "ip");
    judge(forms::ip(ip), ip, errors, || at.path().child("ip"));
    for (index, name) in texts(alias, "hostnames") {
        judge(names::dns1123_subdomain(name), name, errors, || at.path().child("hostnames").index(index));
    }
}

/// A gate names a condition.
pub(super) fn readiness_gate(at: &At<'_>, gate: &Fields, errors: &mut Errors) {
    let condition = text(gate, "conditionType");
    judge(names::qualified_name(condition), condition, errors, || at.path().child("conditionType"));
}

/// Fields of a pod that Windows does not have: where they stand, and where their error is shown.
const NOT_WINDOWS_POD: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const NOT_WINDOWS_CONTEXT: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const NOT_WINDOWS_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Settings are those of the system that the pod is for.
pub(super) fn operating_system(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let context = object(spec, "securityContext");
    let Some(os) = object(spec, "os") else { return };
    match text(os, "name") {
        "" => errors.push(Error::required(&under(at, "os.name"), "cannot be empty")),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            contexts(at, spec, context, (&["windowsOptions"], &["windowsOptions"]), why, errors);
        }
        "windows" => {
            let why = "cannot be set for a windows pod";
            for name in NOT_WINDOWS_POD.iter().filter(|name| spec.contains_key(name)) {
                errors.push(Error::forbidden(&at.path().child(name), why));
            }
            contexts(at, spec, context, (&NOT_WINDOWS_CONTEXT, &NOT_WINDOWS_CONTAINER), why, errors);
        }
        other => errors.push(Error::not_supported(&at.path().child("os"), other, &["linux", "windows"])),
    }
}

fn contexts(
    at: &At<'_>,
    spec: &Fields,
    context: Option<&Fields>,
    (of_pod, of_container): (&[&str], &[&str]),
    why: &str,
    errors: &mut Errors,
) {
    let mut forbid = |path: Path, context: &Fields, names: &[&str]| {
        for name in names.iter().filter(|name| context.contains_key(name)) {
            errors.push(Error::forbidden(&path.child(name), why));
        }
    };
    if let Some(context) = context {
        forbid(at.path().child("securityContext"), context, of_pod);
    }
    for name in CONTAINERS {
        for (index, container) in items(spec, name) {
            if let Some(context) = object(container, "securityContext") {
                forbid(at.path().child(name).index(index).child("securityContext"), context, of_container);
            }
        }
    }
}

fn host_process(context: Option<&Fields>) -> Option<bool> {
    object(context?, "windowsOptions")?.get("hostProcess")?.as_bool()
}

/// On Windows all containers of a pod are processes of the host, or none.
pub(super) fn host_processes(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let of_pod = host_process(object(spec, "securityContext"));
    let (mut all, mut on_host) = (0, 0);
    for name in CONTAINERS {
        for (index, container) in items(spec, name) {
            let own = host_process(object(container, "securityContext"));
            all += 1;
            on_host += usize::from(own.or(of_pod).unwrap_or(false));
            if let (Some(own), Some(of_pod)) = (own, of_pod)
                && own != of_pod
            {
                let path = at.path().child(name).index(index).child("securityContext");
                let path = path.child("windowsOptions").child("hostProcess");
                let why =
                    format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
                errors.push(Error::invalid(&path, own, &why));
            }
        }
    }
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(&at.path(), "", why));
    }
    if !flag(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&at.path().child("hostNetwork"), false, why));
    }
}
