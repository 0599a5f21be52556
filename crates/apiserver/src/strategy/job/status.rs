//! A Job's status: what is finished stays finished, and says so completely.

use jiff::Timestamp;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::{Value, validate};

use super::is_indexed;
use crate::registry::tree;
use crate::strategy::status;

/// Pairs of conditions that are not true together.
const APART: [(&str, &str, &str); 4] = [
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
    (
        "SuccessCriteriaMet",
        "FailureTarget",
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    ),
];
/// Conditions that are true only beside another.
const AFTER: [(&str, &str, &str); 2] = [
    ("Failed", "FailureTarget", "cannot set Failed=True condition without the FailureTarget=true condition"),
    (
        "Complete",
        "SuccessCriteriaMet",
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    ),
];

fn has(job: &Value, kind: &str) -> bool {
    tree::items(job, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn is_finished(job: &Value) -> bool {
    has(job, "Complete") || has(job, "Failed")
}

fn field<'j>(job: &'j Value, name: &str) -> &'j Value {
    tree::at(job, &["status", name])
}

fn count(job: &Value, name: &str) -> i64 {
    field(job, name).as_i64().unwrap_or_default()
}

fn at(name: &str) -> Path {
    Path::new("status").child(name)
}

/// Judges a written status.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    status::job(new, old, "status", errors);
    // Most writes of a status bring no condition that the job has not had before.
    if field(new, "conditions") != field(old, "conditions") {
        conditions(new, old, errors);
    }
    uncounted(new, errors);
    if is_finished(new) && !is_finished(old) {
        finished(new, errors);
    }
    times(new, old, errors);
    indexes(new, old, errors);
    if count(new, "ready") > count(new, "active") {
        let why = "cannot set more ready pods than active";
        errors.push(Error::invalid(&at("ready"), count(new, "ready"), why));
    }
    for name in ["failed", "succeeded"] {
        if count(new, name) < count(old, name) {
            let why = format!("cannot decrease the {name} counter");
            errors.push(Error::invalid(&at(name), count(new, name), &why));
        }
    }
}

fn conditions(new: &Value, old: &Value, errors: &mut Errors) {
    let mut refuse = |why: &str| errors.push(Error::invalid_here(&at("conditions"), why));
    APART.iter().filter(|(a, b, _)| has(new, a) && has(new, b)).for_each(|(.., why)| refuse(why));
    AFTER.iter().filter(|(a, b, _)| has(new, a) && !has(new, b)).for_each(|(.., why)| refuse(why));
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if has(old, kind) && !has(new, kind) {
            refuse(&format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    match (has(old, "SuccessCriteriaMet"), has(new, "SuccessCriteriaMet")) {
        (true, false) => refuse("cannot disable the SuccessCriteriaMet=True condition"),
        (false, true) if has(old, "Complete") => {
            refuse("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
        }
        _ => {}
    }
}

/// Pods that ended and are not counted yet are named once each.
fn uncounted(new: &Value, errors: &mut Errors) {
    for list in ["succeeded", "failed"] {
        let names = tree::items(new, &["status", "uncountedTerminatedPods", list]);
        for (index, name) in names.iter().enumerate() {
            let path = || at("uncountedTerminatedPods").child(list).index(index);
            if name == "" {
                errors.push(Error::invalid(&path(), "", "must not be empty"));
            } else if names.iter().take(index).any(|other| other == name) {
                errors.push(Error::duplicate(&path(), name.clone()));
            }
        }
    }
}

/// Nothing runs on, and nothing is left to count.
fn finished(new: &Value, errors: &mut Errors) {
    if count(new, "active") > 0 {
        let why = "active>0 is invalid for finished job";
        errors.push(Error::invalid(&at("active"), count(new, "active"), why));
    }
    if count(new, "terminating") > 0 {
        let why = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(&at("terminating"), count(new, "terminating"), why));
    }
    if field(new, "startTime").is_null() {
        errors.push(Error::required(&at("startTime"), "startTime is required for finished job"));
    }
    let left = field(new, "uncountedTerminatedPods");
    let any = |list| !tree::items(left, &[list]).is_empty();
    if any("succeeded") || any("failed") {
        let why = "must be empty for finished job";
        errors.push(Error::invalid(&at("uncountedTerminatedPods"), left.clone(), why));
    }
}

fn times(new: &Value, old: &Value, errors: &mut Errors) {
    let (start, end) = (field(new, "startTime"), field(new, "completionTime"));
    let path = at("completionTime");
    match (has(new, "Complete"), end.is_null()) {
        (false, false) => {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(&path, end.clone(), why));
        }
        (true, true) => {
            errors.push(Error::required(&path, "completionTime is required for Complete jobs"));
        }
        _ => {}
    }
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    if time(end).is_some_and(|end| time(start).is_some_and(|start| end < start)) {
        errors.push(Error::invalid(&path, end.clone(), "must be equal to or after `startTime`"));
    }
    let ended = field(old, "completionTime");
    if !ended.is_null() && !end.is_null() && ended != end {
        errors.push(Error::invalid(&path, end.clone(), "field is immutable"));
    }
    let suspended = tree::at(new, &["spec", "suspend"]) == &Value::Bool(true);
    let started = field(old, "startTime");
    if !started.is_null() && started != start && !suspended {
        let why = "startTime cannot be removed for unsuspended job";
        errors.push(Error::required(&at("startTime"), why));
    }
}

fn indexes(new: &Value, old: &Value, errors: &mut Errors) {
    let same = |name| field(new, name) == field(old, name);
    if same("completedIndexes") && same("failedIndexes") {
        return;
    }
    let completed = field(new, "completedIndexes").as_str().unwrap_or_default();
    let failed = field(new, "failedIndexes").as_str();
    let limited = !tree::at(new, &["spec", "backoffLimitPerIndex"]).is_null();
    let mut refuse = |name: &str, text: &str, why: &str| errors.push(Error::invalid(&at(name), text, why));
    if !is_indexed(new) && !completed.is_empty() {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        refuse("completedIndexes", completed, why);
    }
    if let (Some(failed), false) = (failed, limited) {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        refuse("failedIndexes", failed, why);
    }
    let Some(completions) = tree::at(new, &["spec", "completions"]).as_i64() else { return };
    let lists = [("completedIndexes", Some(completed)), ("failedIndexes", failed.filter(|_| limited))];
    for (name, text) in lists {
        if let Some(text) = text
            && let Err(e) = validate::count_indexes(text, completions)
        {
            refuse(name, text, &format!("error parsing {name}: {e}"));
        }
    }
    let failed = failed.unwrap_or_default();
    if let Some(index) = validate::overlapping_indexes(completed, failed, completions) {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        refuse("failedIndexes", failed, &why);
    }
}
