//! Who judges writes: webhooks, policies and their bindings. What needs the expression language is not judged here.

use crate::Value;

use super::here::Here;
use super::{At, Fields, Seen, items};
use crate::field::{Error, Errors};
use crate::validate::{domains, names};

const CONDITIONS_MAX: usize = 64;
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const AUDIT_VALUE_MAX: usize = 5 * 1024;
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Forms of a mutation, and the field that holds each.
const PATCHES: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
/// Webhooks of one configuration have names of their own.
pub fn configuration(at: &At<'_>, configuration: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, configuration, errors);
    here.unique_names("webhooks", "name");
}

/// A webhook of either kind.
pub fn webhook(at: &At<'_>, hook: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, hook, errors);
    domains::fully_qualified_name(&here.path("name"), here.text("name"), here.errors);
    match here.text("sideEffects") {
        "" => here.required("sideEffects", "must specify one of None, NoneOnDryRun"),
        effects if !SIDE_EFFECTS.contains(&effects) => here.unsupported("sideEffects", SIDE_EFFECTS),
        _ => {}
    }
    if here.number("timeoutSeconds").is_some_and(|timeout| !(1..=30).contains(&timeout)) {
        here.invalid("timeoutSeconds", "the timeout value must be between 1 and 30 seconds");
    }
    if here.has("clientConfig.url") == here.has("clientConfig.service") {
        here.required("clientConfig", "exactly one of url or service is required");
    } else if here.has("clientConfig.url") {
        url(here);
    }
    review_versions(here);
    match_conditions(here);
}

fn review_versions(here: &mut Here<'_, '_>) {
    if here.list("admissionReviewVersions").is_empty() {
        here.required("admissionReviewVersions", "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = Seen::new();
    for (index, version) in here.texts("admissionReviewVersions") {
        if !seen.add(version) {
            here.invalid_item("admissionReviewVersions", index, version, "duplicate version");
            continue;
        }
        for why in names::dns1035_label(version) {
            here.invalid_item("admissionReviewVersions", index, version, &why);
        }
    }
    if !VERSIONS.iter().any(|version| seen.has(*version)) {
        here.invalid("admissionReviewVersions", "must include at least one of v1, v1beta1");
    }
}

/// `https://host[/path]`, and nothing that would not arrive there.
fn url(here: &mut Here<'_, '_>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let name = "clientConfig.url";
    let text = here.text(name);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        here.invalid_as(name, scheme, &why);
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        here.invalid_as(name, "", &format!("host must be specified{FORM}"));
    }
    for (part, why) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            here.invalid_as(name, part, why);
        }
    }
}

/// The Service behind a webhook.
pub fn service(at: &At<'_>, service: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, service, errors);
    if here.text("name").is_empty() {
        here.required("name", "service name is required");
    }
    if here.text("namespace").is_empty() {
        here.required("namespace", "service namespace is required");
    }
    if here.number("port").is_some_and(|port| !(1..=65535).contains(&port)) {
        here.invalid("port", "port is not valid: must be between 1 and 65535, inclusive");
    }
    let path = here.text("path");
    match path {
        "" | "/" => return,
        "//" => return here.invalid("path", "segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        here.invalid("path", "must start with a '/'");
    }
    let inner = path.get(1..).unwrap_or_default();
    for (index, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            here.invalid("path", &format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            here.invalid("path", &format!("segment[{index}]: {why}"));
        }
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.len() > 1 && list.iter().any(|item| item == "*")
}

/// What requests a rule is about.
pub fn rule(at: &At<'_>, rule: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, rule, errors);
    for (name, what) in
        [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
    {
        let list = here.list(name);
        if list.is_empty() {
            here.required(name, "");
        }
        if has_wildcard(list) {
            here.invalid(name, &format!("if '*' is present, must not specify other {what}"));
        }
    }
    for name in ["apiVersions", "resources"] {
        for (index, _) in here.texts(name).filter(|(_, text)| text.is_empty()) {
            here.errors.push(Error::required(&here.path(name).index(index), ""));
        }
    }
    resources(here);
    for (index, name) in here.texts("resourceNames") {
        for why in names::path_segment(name) {
            here.invalid_item("resourceNames", index, name, &why);
        }
    }
    here.unique("resourceNames");
}

fn resources(here: &mut Here<'_, '_>) {
    let list = here.list("resources");
    if list.is_empty() {
        here.required("resources", "");
    }
    let mut before = Seen::new();
    for (index, text) in here.texts("resources") {
        let Some((resource, sub)) = text.split_once('/') else { continue };
        let (all_subs, all_resources) = (before.has((resource, "*")), before.has(("*", sub)));
        before.add((resource, sub));
        if all_subs {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            here.invalid_item("resources", index, text, &why);
        }
        if all_resources {
            let why = format!("if '*/{sub}' is present, must not specify {text}");
            here.invalid_item("resources", index, text, &why);
        }
    }
    if list.len() > 1 && list.iter().any(|text| text == "*/*") {
        here.invalid("resources", "if '*/*' is present, must not specify other resources");
    }
    let plain = here.texts("resources").filter(|(_, text)| !text.contains('/')).map(|(_, text)| text);
    if list.iter().any(|text| text == "*") && plain.last().is_some_and(|last| last != "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        here.invalid("resources", why);
    }
}

fn match_conditions(here: &mut Here<'_, '_>) {
    if !here.most("matchConditions", CONDITIONS_MAX) {
        return;
    }
    let list = At::Child(here.at, "matchConditions");
    let mut seen = Seen::new();
    for (index, condition) in items(here.fields, "matchConditions") {
        let at = At::Index(&list, index);
        let condition = &mut Here::new(&at, condition, here.errors);
        if condition.text("expression").trim().is_empty() {
            condition.required("expression", "");
        }
        let name = condition.text("name");
        if name.is_empty() {
            condition.required("name", "");
        } else if !seen.add(name) {
            condition.errors.push(Error::duplicate(&condition.path("name"), name));
        }
        condition.form("name", names::qualified_name);
    }
}

/// A policy judges with something.
pub fn validating_policy(at: &At<'_>, policy: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, policy, errors);
    let Some(spec) = here.object("spec") else { return };
    let (name, at) = (here.text("metadata.name"), At::Child(at, "spec"));
    let spec = &mut Here::new(&at, spec, here.errors);
    constraints(spec);
    match_conditions(spec);
    if spec.list("validations").is_empty() && spec.list("auditAnnotations").is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        spec.required("validations", why);
        spec.required("auditAnnotations", why);
    }
    audit_annotations(spec, name);
}

/// A policy changes something.
pub fn mutating_policy(at: &At<'_>, policy: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, policy, errors);
    constraints(here);
    match_conditions(here);
    if here.list("mutations").is_empty() {
        here.required("mutations", "mutations must contain at least one item");
    }
    if here.text("reinvocationPolicy").is_empty() {
        here.required("reinvocationPolicy", "");
    }
}

/// One change that a policy makes.
pub fn mutation(at: &At<'_>, mutation: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, mutation, errors);
    let kind = here.text("patchType");
    let Some((_, wanted)) = PATCHES.iter().find(|(known, _)| *known == kind) else {
        if !kind.is_empty() {
            here.unsupported("patchType", &PATCHES.map(|(known, _)| known));
        }
        return;
    };
    for (known, name) in PATCHES {
        if known == kind && !here.has(name) {
            here.required(name, &format!("must be specified when patchType is {kind}"));
        } else if known != kind && here.has(name) {
            let why = format!("must not be specified when patchType is {kind}");
            here.invalid_as(name, format!("{{{name}}}"), &why);
        }
    }
    let expression = format!("{wanted}.expression");
    if here.has(wanted) && here.text(&expression).trim().is_empty() {
        here.required(&expression, "");
    }
}

fn constraints(here: &mut Here<'_, '_>) {
    if !here.has("matchConstraints") {
        here.required("matchConstraints", "");
    } else if here.list("matchConstraints.resourceRules").is_empty() {
        here.required("matchConstraints.resourceRules", "");
    }
}

fn audit_annotations(here: &mut Here<'_, '_>, policy: &str) {
    if here.list("auditAnnotations").len() > AUDIT_ANNOTATIONS_MAX {
        let why = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        here.invalid("auditAnnotations", &why);
        return;
    }
    let list = At::Child(here.at, "auditAnnotations");
    let mut seen = Seen::new();
    for (index, annotation) in items(here.fields, "auditAnnotations") {
        let at = At::Index(&list, index);
        let annotation = &mut Here::new(&at, annotation, here.errors);
        let key = annotation.text("key");
        let full = format!("{policy}/{key}");
        annotation.wrong("key", &full, names::qualified_name(&full));
        if !seen.add(key) {
            annotation.errors.push(Error::duplicate(&annotation.path("key"), key));
        }
        match annotation.text("valueExpression").trim().len() {
            0 => annotation.required("valueExpression", "valueExpression is not specified"),
            length if length > AUDIT_VALUE_MAX => {
                let why = format!("must not exceed {AUDIT_VALUE_MAX} bytes in length");
                annotation.required("valueExpression", &why);
            }
            _ => {}
        }
    }
}

/// One judgement of a policy.
pub fn validation(at: &At<'_>, validation: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, validation, errors);
    if here.text("expression").trim().is_empty() {
        here.required("expression", "expression is not specified");
    }
    for name in ["messageExpression", "message"] {
        let text = here.text(name);
        if !text.is_empty() && text.trim().is_empty() {
            here.invalid(name, "must be non-empty if specified");
        }
    }
    if here.text("message").trim().contains(['\n', '\r']) {
        here.invalid("message", "must not contain line breaks");
    }
    if here.has("reason") && !REASONS.contains(&here.text("reason")) {
        here.unsupported("reason", REASONS);
    }
}

/// A name for an expression.
pub fn variable(at: &At<'_>, variable: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, variable, errors);
    let name = here.text("name");
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let right = !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(word);
    if name.trim().is_empty() {
        here.required("name", "name is not specified");
    } else if !right || names::CEL_WORDS.contains(&name) || names::CEL_RESERVED.contains(&name) {
        here.invalid("name", "must be a valid CEL identifier");
    }
    if here.text("expression").trim().is_empty() {
        here.required("expression", "expression is not specified");
    }
}

/// What kind of objects hold parameters.
pub fn param_kind(at: &At<'_>, kind: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, kind, errors);
    let text = here.text("apiVersion");
    let (group, version) = text.rsplit_once('/').unwrap_or(("", text));
    let wrong = [(group, names::dns1123_subdomain(group)), (version, names::dns1035_label(version))];
    if group.contains('/') {
        here.invalid("apiVersion", &format!("unexpected GroupVersion string: {text}"));
    } else if text.is_empty() {
        // Demanded by the schema.
    } else if version.is_empty() {
        here.invalid("apiVersion", "version must be specified");
    } else {
        for (part, found) in wrong.iter().filter(|(part, found)| !part.is_empty() && !found.is_empty()) {
            here.invalid_as("apiVersion", *part, &found.join(","));
        }
    }
    let found = names::dns1035_label(&here.text("kind").to_lowercase());
    if !here.text("kind").is_empty() && !found.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", found.join(","));
        here.invalid("kind", &why);
    }
}

/// Parameters are named or selected.
pub fn param_ref(at: &At<'_>, param: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, param, errors);
    here.form("name", names::path_segment);
    match (!here.text("name").is_empty(), here.has("selector")) {
        (true, true) => {
            here.forbidden("name", "name and selector are mutually exclusive");
            here.forbidden("selector", "name and selector are mutually exclusive");
        }
        (false, false) => here.required("", "one of name or selector must be specified"),
        _ => {}
    }
    match here.text("parameterNotFoundAction") {
        "" => here.required("parameterNotFoundAction", ""),
        "Deny" | "Allow" => {}
        _ => here.unsupported("parameterNotFoundAction", &["Deny", "Allow"]),
    }
}

/// Which policy a binding puts to use.
pub fn mutating_binding(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if here.text("policyName").is_empty() {
        here.required("policyName", "");
    }
    here.form("policyName", names::dns1123_subdomain);
}

/// Which policy a binding puts to use, and what becomes of what it finds.
pub fn binding(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    here.form("policyName", names::dns1123_subdomain);
    let actions = here.list("validationActions");
    if actions.is_empty() {
        here.required("validationActions", "at least one validation action is required");
    }
    here.unique("validationActions");
    let has = |action: &str| actions.iter().any(|given| given == action);
    if has("Deny") && has("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        here.invalid("validationActions", why);
    }
}
