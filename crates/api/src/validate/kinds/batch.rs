//! Jobs and CronJobs: counts and their limits, policies for failure and success, schedules.

use crate::Value;

use super::here::Here;
use super::{At, Fields, items, pods, text};
use crate::field::{Error, Errors};
use crate::validate::{domains, indexes, names, schedule};

/// Pods at once of an Indexed Job, and indexes that may fail.
const INDEXED_MAX: i64 = 100_000;
/// From so many completions on, the limits per index are narrower.
const HIGH_COMPLETIONS: i64 = 100_000;
const HIGH_COMPLETIONS_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const MANAGED_BY_MAX: usize = 63;
const INDEXES_MAX_BYTES: usize = 64 * 1024;
const CRON_NAME_MAX: usize = 52;

/// A Job's pods end; what it counts fits together.
pub fn job(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    if let Some(pod) = here.object("template.spec") {
        let template = At::Child(at, "template");
        pods::mounts_exist(&At::Child(&template, "spec"), pod, &[], here.errors);
    }
    restart_policy(here);
    managed_by(here);
    if here.has("maxFailedIndexes") && !here.has("backoffLimitPerIndex") {
        here.required("backoffLimitPerIndex", "when maxFailedIndexes is specified");
    }
    if here.text("completionMode") == "Indexed" {
        indexed(here);
    } else {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if here.has(name) {
                here.invalid(name, "requires indexed completion mode");
            }
        }
    }
    failure_policy(here);
    success_policy(here);
    if here.has("podFailurePolicy") && here.get("podReplacementPolicy").is_some_and(|p| p != "Failed") {
        here.unsupported("podReplacementPolicy", &["Failed"]);
    }
}

fn restart_policy(here: &mut Here<'_, '_>) {
    let path = "template.spec.restartPolicy";
    match here.text(path) {
        "" | "Always" => here.required(path, r#"valid values: "OnFailure", "Never""#),
        "OnFailure" if here.has("podFailurePolicy") => {
            here.invalid(path, r#"only "Never" is supported when podFailurePolicy is specified"#);
        }
        "OnFailure" | "Never" => {}
        _ => here.unsupported(path, &["OnFailure", "Never"]),
    }
}

fn managed_by(here: &mut Here<'_, '_>) {
    if !here.has("managedBy") {
        return;
    }
    domains::domain_prefixed_path(&here.path("managedBy"), here.text("managedBy"), here.errors);
    if here.text("managedBy").len() > MANAGED_BY_MAX {
        here.errors.push(Error::too_long(&here.path("managedBy"), MANAGED_BY_MAX));
    }
}

fn indexed(here: &mut Here<'_, '_>) {
    let number = |name| here.number(name);
    let (completions, failed) = (number("completions"), number("maxFailedIndexes"));
    let parallelism = number("parallelism").unwrap_or_default();
    if completions.is_none() {
        here.required("completions", "when completion mode is Indexed");
    }
    if parallelism > INDEXED_MAX {
        let why = format!("must be less than or equal to {INDEXED_MAX} when completion mode is Indexed");
        here.invalid("parallelism", &why);
    }
    if completions.is_some_and(|most| failed.is_some_and(|failed| failed > most)) {
        here.invalid("maxFailedIndexes", "must be less than or equal to completions");
    }
    if failed.is_some_and(|failed| failed > INDEXED_MAX) {
        here.invalid("maxFailedIndexes", &format!("must be less than or equal to {INDEXED_MAX}"));
    }
    if completions.is_some_and(|n| n > HIGH_COMPLETIONS) && here.has("backoffLimitPerIndex") {
        many_indexes(here, parallelism, failed);
    }
}

fn many_indexes(here: &mut Here<'_, '_>, parallelism: i64, failed: Option<i64>) {
    let why = || {
        format!(
            "must be less than or equal to {HIGH_COMPLETIONS_MAX} when completions are above {HIGH_COMPLETIONS} and \
             used with backoff limit per index"
        )
    };
    match failed {
        None => {
            let why = format!("must be specified when completions is above {HIGH_COMPLETIONS}");
            here.required("maxFailedIndexes", &why);
        }
        Some(failed) if failed > HIGH_COMPLETIONS_MAX => here.invalid("maxFailedIndexes", &why()),
        Some(_) => {}
    }
    if parallelism > HIGH_COMPLETIONS_MAX {
        here.invalid("parallelism", &why());
    }
}

fn failure_policy(here: &mut Here<'_, '_>) {
    let Some(policy) = here.object("podFailurePolicy") else { return };
    let at = At::Child(here.at, "podFailurePolicy");
    if !Here::new(&at, policy, here.errors).most("rules", RULES_MAX) {
        return;
    }
    let rules = At::Child(&at, "rules");
    for (index, rule) in items(policy, "rules") {
        let (job, at) = (here.fields, At::Index(&rules, index));
        failure_rule(&mut Here::new(&at, rule, here.errors), job);
    }
}

fn failure_rule(rule: &mut Here<'_, '_>, job: &Fields) {
    match rule.text("action") {
        "" => rule.required("action", r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#),
        "FailIndex" if !job.contains_key("backoffLimitPerIndex") => {
            rule.invalid("action", "requires the backoffLimitPerIndex to be set");
        }
        _ => {}
    }
    let conditions = rule.list("onPodConditions");
    let why = match (rule.has("onExitCodes"), conditions.is_empty()) {
        (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => "",
    };
    if !why.is_empty() {
        rule.errors.push(Error::invalid_here(&rule.path(""), why));
    }
    rule.most("onPodConditions", RULES_MAX);
    if let Some(codes) = rule.object("onExitCodes") {
        let at = At::Child(rule.at, "onExitCodes");
        exit_codes(&mut Here::new(&at, codes, rule.errors), job);
    }
}

fn exit_codes(codes: &mut Here<'_, '_>, job: &Fields) {
    if codes.text("operator").is_empty() {
        codes.required("operator", r#"valid values: ["In" "NotIn"]"#);
    }
    let name = codes.text("containerName");
    if codes.has("containerName") && !containers(job).any(|container| container == name) {
        let why = "must be one of the container or initContainer names in the pod template";
        codes.invalid("containerName", why);
    }
    let values = codes.list("values");
    if values.is_empty() {
        codes.invalid("values", "at least one value is required");
    }
    if !codes.most("values", EXIT_CODES_MAX) {
        return;
    }
    for (index, value) in values.iter().enumerate() {
        if *value == 0 && codes.text("operator") == "In" {
            codes.invalid_item("values", index, 0, "must not be 0 for the In operator");
        }
    }
    codes.unique("values");
    if !values.is_sorted_by_key(|value| value.as_i64()) {
        codes.invalid("values", "must be ordered");
    }
}

fn containers(job: &Fields) -> impl Iterator<Item = &str> {
    let pod = job.get("template").and_then(|template| template.get("spec")).and_then(Value::as_object);
    let of = |list| pod.into_iter().flat_map(move |pod| items(pod, list));
    of("containers").chain(of("initContainers")).map(|(_, container)| text(container, "name"))
}

/// A condition that a failed pod is looked at for.
pub fn pod_condition(at: &At<'_>, pattern: &Fields, errors: &mut Errors) {
    const STATUS: &[&str] = &["False", "True", "Unknown"];
    let here = &mut Here::new(at, pattern, errors);
    here.form("type", names::qualified_name);
    match here.text("status") {
        "" => here.required("status", r#"valid values: ["False" "True" "Unknown"]"#),
        status if !STATUS.contains(&status) => here.unsupported("status", STATUS),
        _ => {}
    }
}

fn success_policy(here: &mut Here<'_, '_>) {
    let Some(policy) = here.object("successPolicy") else { return };
    if here.text("completionMode") != "Indexed" {
        return;
    }
    let completions = here.number("completions").unwrap_or_default();
    let at = At::Child(here.at, "successPolicy");
    let policy = &mut Here::new(&at, policy, here.errors);
    if policy.list("rules").is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        policy.required("rules", why);
    }
    if !policy.most("rules", RULES_MAX) {
        return;
    }
    let rules = At::Child(&at, "rules");
    for (index, rule) in items(policy.fields, "rules") {
        let at = At::Index(&rules, index);
        success_rule(&mut Here::new(&at, rule, policy.errors), completions);
    }
}

fn success_rule(rule: &mut Here<'_, '_>, completions: i64) {
    let (indexes, count) = (rule.get("succeededIndexes"), rule.number("succeededCount"));
    if indexes.is_none() && count.is_none() {
        rule.required("", "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(text) = indexes.and_then(Value::as_str) {
        if text.len() > INDEXES_MAX_BYTES {
            rule.errors.push(Error::too_long(&rule.path("succeededIndexes"), INDEXES_MAX_BYTES));
        }
        match indexes::count(text, completions) {
            Ok(count) => total = count,
            Err(e) => rule.invalid("succeededIndexes", &format!("error parsing succeededIndexes: {e}")),
        }
    }
    let Some(count) = count else { return };
    rule.not_negative("succeededCount");
    let mut most = |limit: i64, what: &str| {
        if count > limit {
            let why = format!("must be less than or equal to {limit} (the number of {what})");
            rule.invalid("succeededCount", &why);
        }
    };
    most(completions, "specified completions");
    if indexes.is_some() {
        most(total, "indexes in the specified succeededIndexes field");
    }
}

/// A CronJob's name leaves room for the names of its jobs.
pub fn cron_job_name(at: &At<'_>, cron: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, cron, errors);
    if here.text("metadata.name").len() > CRON_NAME_MAX {
        here.invalid("metadata.name", &format!("must be no more than {CRON_NAME_MAX} bytes"));
    }
}

/// A CronJob's schedule has five fields or a name; its jobs select for themselves.
pub fn cron_job(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    let text = here.text("schedule");
    if !text.is_empty() {
        if let Err(why) = schedule::check(text) {
            here.invalid("schedule", &why);
        }
        if text.contains("TZ") {
            here.invalid("schedule", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
    }
    if here.has("jobTemplate.spec.selector") {
        here.invalid("jobTemplate.spec.selector", "`selector` will be auto-generated");
    }
    if here.flag("jobTemplate.spec.manualSelector") {
        here.unsupported("jobTemplate.spec.manualSelector", &["nil", "false"]);
    }
}
