//! What a definition's status says: a pure function of it and of the others in its group.
//!
//! Names are granted one by one. A name that another definition of the group has been granted is not, the condition
//! `NamesAccepted` says which, and nothing is served until all have been granted once.

use std::collections::HashSet;

use jiff::Timestamp;
use tiphys_api::{Value, json};

use crate::registry::tree;
use crate::strategy::definition::{APPROVED, CLEANUP, is_protected};

/// Names that stand in paths, with the reason why one is not granted.
const RESOURCE_NAMES: [(&str, &str); 2] = [("plural", "PluralConflict"), ("singular", "SingularConflict")];
/// Names of kinds.
const KINDS: [(&str, &str); 2] = [("kind", "KindConflict"), ("listKind", "ListKindConflict")];

/// The status that a definition should have; `others`: the names that each other of its group has been granted.
pub fn judge<'a>(definition: &Value, others: impl IntoIterator<Item = &'a Value>, now: Timestamp) -> Value {
    let taken = Taken::by(others);
    let (granted, refusal) = grant(definition, &taken);
    let mut status = definition.get("status").cloned().unwrap_or_else(|| json!({}));
    let accepted = refusal.is_none();
    let was_established = is_true(definition, "Established");
    let mut conditions = Conditions { list: tree::items(&status, &["conditions"]).to_vec(), now };
    conditions.set(match refusal {
        None => ("NamesAccepted", true, "NoConflicts", "no conflicts found".into()),
        Some((reason, why)) => ("NamesAccepted", false, reason, why),
    });
    conditions.set(match accepted || was_established {
        true => ("Established", true, "InitialNamesAccepted", "the initial names have been accepted".into()),
        false => ("Established", false, "NotAccepted", "not all names are accepted".into()),
    });
    approval(definition, &mut conditions);
    if is_ending(definition) && is_true(definition, "Terminating") {
        let why = "CustomResource deletion is in progress".to_owned();
        conditions.set(("Terminating", true, "InstanceDeletionInProgress", why));
    }
    tree::set(&mut status, &["acceptedNames"], granted);
    tree::set(&mut status, &["conditions"], conditions.list.into());
    status
}

/// Whether the definition is going away, and its objects before it.
pub fn is_ending(definition: &Value) -> bool {
    let held =
        tree::items(definition, &["metadata", "finalizers"]).iter().any(|finalizer| finalizer == CLEANUP);
    held && !tree::at(definition, &["metadata", "deletionTimestamp"]).is_null()
}

/// Whether a condition of a definition (or of its status, as `{"status": …}`) is true.
pub fn is_true(definition: &Value, kind: &str) -> bool {
    let mut conditions = tree::items(definition, &["status", "conditions"]).iter();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

struct Taken<'a> {
    resources: HashSet<&'a str>,
    kinds: HashSet<&'a str>,
}

impl<'a> Taken<'a> {
    fn by(others: impl IntoIterator<Item = &'a Value>) -> Self {
        let (mut resources, mut kinds) = (HashSet::new(), HashSet::new());
        for names in others {
            resources.extend(RESOURCE_NAMES.iter().map(|(name, _)| tree::text(names, &[name])));
            resources.extend(tree::items(names, &["shortNames"]).iter().filter_map(Value::as_str));
            kinds.extend(KINDS.iter().map(|(name, _)| tree::text(names, &[name])));
        }
        resources.remove("");
        kinds.remove("");
        Self { resources, kinds }
    }
}

/// The names that are granted, and why others are not.
fn grant(definition: &Value, taken: &Taken<'_>) -> (Value, Option<(&'static str, String)>) {
    let wanted = tree::at(definition, &["spec", "names"]);
    let before = tree::at(definition, &["status", "acceptedNames"]);
    let mut granted = if before.is_object() { before.clone() } else { json!({}) };
    let mut refusal = None;
    let texts = RESOURCE_NAMES.iter().map(|names| (names, &taken.resources));
    for ((name, reason), taken) in texts.chain(KINDS.iter().map(|names| (names, &taken.kinds))) {
        let text = tree::text(wanted, &[name]);
        match taken.contains(text) {
            true => refusal = Some((*reason, in_use([text]))),
            false => tree::set(&mut granted, &[name], tree::at(wanted, &[name]).clone()),
        }
    }
    let short = tree::items(wanted, &["shortNames"]).iter().filter_map(Value::as_str);
    let clashes: Vec<&str> = short.filter(|name| taken.resources.contains(name)).collect();
    match clashes.is_empty() {
        true => tree::set(&mut granted, &["shortNames"], tree::at(wanted, &["shortNames"]).clone()),
        false => refusal = Some(("ShortNamesConflict", in_use(clashes))),
    }
    tree::set(&mut granted, &["categories"], tree::at(wanted, &["categories"]).clone());
    (granted, refusal)
}

fn in_use<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let told: Vec<String> = names.into_iter().map(|name| format!("{name:?} is already in use")).collect();
    match told.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// Groups of Kubernetes' community tell who approved the definition.
fn approval(definition: &Value, conditions: &mut Conditions) {
    let text = tree::text(definition, &["metadata", "annotations", APPROVED]);
    let kind = "KubernetesAPIApprovalPolicyConformant";
    if !is_protected(definition) {
        return;
    }
    conditions.set(match text {
        "" => (
            kind,
            false,
            "MissingAnnotation",
            format!("protected groups must have approval annotation {APPROVED:?}"),
        ),
        text if text.starts_with("unapproved") => {
            (kind, false, "UnapprovedAnnotation", format!("not approved: {text:?}"))
        }
        text => (kind, true, "ApprovedAnnotation", format!("approved in {text}")),
    });
}

struct Conditions {
    list: Vec<Value>,
    now: Timestamp,
}

impl Conditions {
    fn set(&mut self, (kind, holds, reason, message): (&str, bool, &str, String)) {
        let status = if holds { "True" } else { "False" };
        let at = self.list.iter().position(|condition| condition["type"] == kind);
        let before = at.and_then(|at| self.list.get(at));
        let since = before.filter(|before| before["status"] == status);
        let since = since.and_then(|before| before.get("lastTransitionTime")).cloned();
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| tree::time(self.now)),
        });
        match at.and_then(|at| self.list.get_mut(at)) {
            Some(place) => *place = condition,
            None => self.list.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &str) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": [short],
            }},
        })
    }

    fn conditions(status: &Value) -> Vec<String> {
        let text = |c: &Value| {
            format!(
                "{}={} {}",
                tree::text(c, &["type"]),
                tree::text(c, &["status"]),
                tree::text(c, &["reason"])
            )
        };
        tree::items(status, &["conditions"]).iter().map(text).collect()
    }

    #[test]
    fn the_first_gets_the_names_and_keeps_them() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let mut first = definition("widgets", "Widget", "w");
        first["status"] = judge(&first, [], now);
        assert_eq!(first["status"]["acceptedNames"], first["spec"]["names"]);
        assert_eq!(
            conditions(&first["status"]),
            ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]
        );
        let later = now + jiff::SignedDuration::from_secs(60);
        assert_eq!(judge(&first, [], later), first["status"], "nothing changes by itself");

        let mut second = definition("gadgets", "Widget", "w");
        second["status"] = judge(&second, [&first["status"]["acceptedNames"]], now);
        assert_eq!(
            conditions(&second["status"]),
            ["NamesAccepted=False ShortNamesConflict", "Established=False NotAccepted"]
        );
        assert_eq!(second["status"]["conditions"][0]["message"], "\"w\" is already in use");
        let names = &second["status"]["acceptedNames"];
        assert_eq!((&names["plural"], &names["kind"]), (&json!("gadgets"), &Value::Null));
        second["status"] = judge(&second, [], later);
        assert!(is_true(&second, "Established"), "once the other is gone");
    }

    #[test]
    fn an_ending_definition_says_what_it_waits_for() {
        let mut ending = definition("widgets", "Widget", "w");
        ending["metadata"]["finalizers"] = json!([CLEANUP]);
        ending["metadata"]["deletionTimestamp"] = json!("2026-11-23T10:00:00Z");
        ending["status"] = json!({"conditions": [{"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending"}]});
        assert!(is_ending(&ending));
        let status = judge(&ending, [], Timestamp::UNIX_EPOCH);
        assert!(conditions(&status).contains(&"Terminating=True InstanceDeletionInProgress".to_owned()));
    }
}
