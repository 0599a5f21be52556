//! A Job's status: what is finished stays finished, and says so completely.

use jiff::Timestamp;
use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate::{self, Seen};

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

/// What of a job's status a write changes. A rule is judged when one of the fields it is about changes: what a finished
/// job says already is nobody's business any more.
struct Change<'j> {
    new: &'j Value,
    old: &'j Value,
}

impl Change<'_> {
    fn of(&self, name: &str) -> bool {
        field(self.new, name) != field(self.old, name)
    }

    /// Whether a condition becomes true or ceases to be.
    fn turns(&self, kind: &str) -> bool {
        has(self.new, kind) != has(self.old, kind)
    }
}

/// Judges a written status.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let change = Change { new, old };
    status::job(new, old, "status", errors);
    // Most writes of a status bring no condition that the job has not had before.
    if change.of("conditions") {
        conditions(new, old, errors);
    }
    uncounted(new, errors);
    if is_finished(new) {
        finished(&change, errors);
    }
    times(&change, errors);
    indexes(&change, errors);
    let more = count(new, "ready") > count(new, "active");
    if more && (change.of("ready") || change.of("active")) {
        let why = "cannot set more ready pods than active";
        errors.push(Error::invalid(&at("ready"), count(new, "ready"), why));
    }
    fewer(new, old, errors);
}

/// What was counted stays counted. Only an elastic Indexed Job forgets successes: of the indexes it no longer has.
fn fewer(new: &Value, old: &Value, errors: &mut Errors) {
    let of_spec = |name| tree::at(new, &["spec", name]);
    let elastic = is_indexed(new) && of_spec("completions") == of_spec("parallelism");
    for name in ["failed", "succeeded"] {
        if count(new, name) < count(old, name) && !(elastic && name == "succeeded") {
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
    let mut seen = Seen::new();
    for list in ["succeeded", "failed"] {
        let names = tree::items(new, &["status", "uncountedTerminatedPods", list]);
        for (index, name) in names.iter().enumerate() {
            let path = || at("uncountedTerminatedPods").child(list).index(index);
            if name == "" {
                errors.push(Error::invalid(&path(), "", "must not be empty"));
            } else if !seen.add(name) {
                errors.push(Error::duplicate(&path(), name.clone()));
            }
        }
    }
}

/// Nothing runs on, and nothing is left to count.
fn finished(change: &Change<'_>, errors: &mut Errors) {
    let new = change.new;
    let ends = is_finished(new) != is_finished(change.old);
    for name in ["active", "terminating"] {
        if count(new, name) > 0 && (ends || change.of(name)) {
            let why = format!("{name}>0 is invalid for finished job");
            errors.push(Error::invalid(&at(name), count(new, name), &why));
        }
    }
    // A suspended job that has nothing to do is complete without having started.
    let idle = is_suspended(new) && tree::at(new, &["spec", "completions"]) == &Value::from(0);
    if field(new, "startTime").is_null() && (ends || change.of("startTime")) && !idle {
        errors.push(Error::required(&at("startTime"), "startTime is required for finished job"));
    }
    let left = field(new, "uncountedTerminatedPods");
    let any = |list| !tree::items(left, &[list]).is_empty();
    if (any("succeeded") || any("failed")) && (ends || change.of("uncountedTerminatedPods")) {
        let why = "must be empty for finished job";
        errors.push(Error::invalid(&at("uncountedTerminatedPods"), left.clone(), why));
    }
}

fn is_suspended(job: &Value) -> bool {
    tree::at(job, &["spec", "suspend"]) == &Value::Bool(true)
}

fn times(change: &Change<'_>, errors: &mut Errors) {
    let (new, old) = (change.new, change.old);
    let (start, end) = (field(new, "startTime"), field(new, "completionTime"));
    let path = at("completionTime");
    let ends = change.turns("Complete") || change.of("completionTime");
    match (has(new, "Complete"), end.is_null()) {
        (false, false) if ends => {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(&path, end.clone(), why));
        }
        (true, true) if ends => {
            errors.push(Error::required(&path, "completionTime is required for Complete jobs"));
        }
        _ => {}
    }
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let backwards = || time(end).is_some_and(|end| time(start).is_some_and(|start| end < start));
    if (change.of("startTime") || change.of("completionTime")) && backwards() {
        errors.push(Error::invalid(&path, end.clone(), "must be equal to or after `startTime`"));
    }
    let ended = field(old, "completionTime");
    if !ended.is_null() && !end.is_null() && ended != end {
        errors.push(Error::invalid(&path, end.clone(), "field is immutable"));
    }
    // Who resumes begins anew.
    let resumes = has(old, "Suspended") && !has(new, "Suspended");
    let started = !field(old, "startTime").is_null();
    if started && change.of("startTime") && !is_suspended(new) && !resumes {
        let why = "field is immutable for unsuspended job once set";
        errors.push(Error::invalid(&at("startTime"), start.clone(), why));
    }
}

fn indexes(change: &Change<'_>, errors: &mut Errors) {
    let new = change.new;
    let written = |name| change.of(name);
    if !written("completedIndexes") && !written("failedIndexes") {
        return;
    }
    let completed = field(new, "completedIndexes").as_str().unwrap_or_default();
    let failed = field(new, "failedIndexes").as_str();
    let limited = !tree::at(new, &["spec", "backoffLimitPerIndex"]).is_null();
    let mut refuse = |name: &str, text: &str, why: &str| errors.push(Error::invalid(&at(name), text, why));
    if !is_indexed(new) && !completed.is_empty() && written("completedIndexes") {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        refuse("completedIndexes", completed, why);
    }
    if let (Some(failed), false) = (failed, limited)
        && written("failedIndexes")
    {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        refuse("failedIndexes", failed, why);
    }
    let Some(completions) = tree::at(new, &["spec", "completions"]).as_i64() else { return };
    let lists = [("completedIndexes", Some(completed)), ("failedIndexes", failed.filter(|_| limited))];
    for (name, text) in lists {
        if let Some(text) = text.filter(|_| written(name))
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
