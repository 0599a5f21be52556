//! Where a pod may run: affinities, tolerations, spreading and gates.

use std::collections::HashMap;

use crate::{Text, Value};

use super::judge;
use super::{At, Fields, Seen, items, list, number, object, text, texts};
use crate::field::{Error, Errors};
use crate::validate::names;

const BOTH: &str = "exists in both matchLabelKeys and labelSelector";

/// Operator, key and value fit each other.
pub(super) fn toleration(at: &At<'_>, toleration: &Fields, errors: &mut Errors) {
    let (operator, value) = (text(toleration, "operator"), text(toleration, "value"));
    if text(toleration, "key").is_empty() && operator != "Exists" {
        let why =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(Error::invalid(&at.path().child("operator"), operator, why));
    }
    if toleration.contains_key("tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&at.path().child("effect"), text(toleration, "effect"), why));
    }
    match operator {
        "" | "Equal" => {
            let found = names::label_value(value);
            if !found.is_empty() {
                errors.push(Error::invalid(&at.path().child("operator"), value, &found.join(";")));
            }
        }
        "Exists" if !value.is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.push(Error::invalid(&at.path().child("operator"), value, why));
        }
        "Gt" | "Lt" if value.parse::<i64>().map(|n| n.to_string()).as_deref() != Ok(value) => {
            let why = "must be a valid decimal integer in canonical form";
            errors.push(Error::invalid(&at.path().child("value"), value, why));
        }
        _ => {}
    }
}

/// Pods are spread by a skew over a topology.
pub(super) fn spread(at: &At<'_>, spread: &Fields, errors: &mut Errors) {
    let skew = number(spread, "maxSkew").unwrap_or(0);
    if skew <= 0 {
        errors.push(Error::invalid(&at.path().child("maxSkew"), skew, "must be greater than zero"));
    }
    if text(spread, "topologyKey").is_empty() {
        errors.push(Error::required(&at.path().child("topologyKey"), "can not be empty"));
    }
    if let Some(least) = number(spread, "minDomains") {
        let path = || at.path().child("minDomains");
        if least <= 0 {
            errors.push(Error::invalid(&path(), least, "must be greater than zero"));
        }
        let action = text(spread, "whenUnsatisfiable");
        if action != "DoNotSchedule" {
            let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.push(Error::invalid(&path(), least, &why));
        }
    }
    keys(&at.child("matchLabelKeys"), spread, "matchLabelKeys", errors);
    let asked = Asked::of(object(spread, "labelSelector"), list(spread, "matchLabelKeys"));
    for (index, key) in texts(spread, "matchLabelKeys") {
        if asked.beyond(key, at) {
            errors.push(Error::invalid(&at.path().child("matchLabelKeys").index(index), key, BOTH));
        }
    }
}

/// Keys of labels only refine a selector.
fn keys(at: &At<'_>, holder: &Fields, name: &str, errors: &mut Errors) {
    if list(holder, name).is_empty() {
        return;
    }
    if !holder.contains_key("labelSelector") {
        let why = "must not be specified when labelSelector is not set";
        errors.push(Error::forbidden(&at.path(), why));
    }
    for (index, key) in texts(holder, name) {
        judge(names::label_key(key), key, errors, || at.path().index(index));
    }
}

/// How often a selector asks for each key.
struct Asked<'s>(HashMap<&'s str, usize>);

impl<'s> Asked<'s> {
    /// `keys` are those that will be asked for; without any, nothing is counted.
    fn of(selector: Option<&'s Fields>, keys: &[Value]) -> Self {
        let mut times = HashMap::new();
        if let Some(selector) = selector.filter(|_| !keys.is_empty()) {
            let plain = object(selector, "matchLabels").into_iter().flat_map(Fields::keys).map(Text::as_str);
            let expressions = items(selector, "matchExpressions").map(|(_, wanted)| text(wanted, "key"));
            plain.chain(expressions).for_each(|key| *times.entry(key).or_default() += 1);
        }
        Self(times)
    }

    /// Whether a selector asks for a key of its own accord. Into that of a pod the server itself has put each of its
    /// label keys once; a template is as it was written.
    fn beyond(&self, key: &str, at: &At<'_>) -> bool {
        self.0.get(key).is_some_and(|times| *times > usize::from(is_in_pod(at)))
    }
}

/// Whether a place is in a pod, not in a template.
fn is_in_pod(at: &At<'_>) -> bool {
    match at {
        At::Child(At::Root, name) => *name == "spec",
        At::Root => false,
        _ => !matches!(at, At::Child(_, "template")) && is_in_pod(at.parent()),
    }
}

/// The same kind of spreading stands once.
pub(super) fn spread_once(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let key = |spread| (text(spread, "topologyKey"), text(spread, "whenUnsatisfiable"));
    let mut later = Seen::new();
    let constraints: Vec<(usize, &Fields)> = items(spec, "topologySpreadConstraints").collect();
    for (index, spread) in constraints.into_iter().rev() {
        let (topology, action) = key(spread);
        if !later.add((topology, action)) {
            let path = at.path().child("topologySpreadConstraints").index(index);
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, format!("{{{topology}, {action}}}")));
        }
    }
}

/// Preferences are weighed from 1 to 100.
pub(super) fn weight(at: &At<'_>, term: &Fields, errors: &mut Errors) {
    let weight = number(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&at.path().child("weight"), weight, "must be in the range 1-100"));
    }
}

/// A term about other pods names a topology.
pub(super) fn affinity_term(at: &At<'_>, term: &Fields, errors: &mut Errors) {
    for (_, name) in texts(term, "namespaces") {
        judge(names::dns1123_label(name), name, errors, || at.path().child("namespace"));
    }
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        keys(&at.child(name), term, name, errors);
    }
    let asked = Asked::of(object(term, "labelSelector"), list(term, "matchLabelKeys"));
    let mut avoided = Seen::new();
    for (_, key) in texts(term, "mismatchLabelKeys") {
        avoided.add(key);
    }
    for (index, key) in texts(term, "matchLabelKeys") {
        if asked.beyond(key, at) {
            errors.push(Error::invalid(&at.path().index(index), key, BOTH));
        }
        if avoided.has(key) {
            let path = at.path().child("matchLabelKeys").index(index);
            errors.push(Error::invalid(&path, key, "exists in both matchLabelKeys and mismatchLabelKeys"));
        }
    }
    let topology = text(term, "topologyKey");
    if topology.is_empty() {
        errors.push(Error::required(&at.path().child("topologyKey"), "can not be empty"));
    }
    judge(names::label_key(topology), topology, errors, || at.path().child("topologyKey"));
}

/// A selector of nodes has terms.
pub(super) fn node_selector(at: &At<'_>, selector: &Fields, errors: &mut Errors) {
    if list(selector, "nodeSelectorTerms").is_empty() {
        let why = "must have at least one node selector term";
        errors.push(Error::required(&at.path().child("nodeSelectorTerms"), why));
    }
}

/// What a term asks of a node's labels and fields.
pub(super) fn node_selector_term(at: &At<'_>, term: &Fields, errors: &mut Errors) {
    // A preference that no node can meet does no harm, so its values are free.
    let preferred = matches!(at, At::Child(_, "preference"));
    for (index, wanted) in items(term, "matchExpressions") {
        let place = at.child("matchExpressions");
        node_label(&place.index(index), wanted, preferred, errors);
    }
    for (index, wanted) in items(term, "matchFields") {
        let place = at.child("matchFields");
        node_field(&place.index(index), wanted, errors);
    }
}

fn node_label(at: &At<'_>, wanted: &Fields, preferred: bool, errors: &mut Errors) {
    let (operator, key) = (text(wanted, "operator"), text(wanted, "key"));
    let count = list(wanted, "values").len();
    let path = || at.path().child("values");
    match operator {
        "In" | "NotIn" if count == 0 => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path(), why));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path(), why));
        }
        "Gt" | "Lt" if count != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&path(), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => not_an_operator(at, other, errors),
    }
    judge(names::label_key(key), key, errors, || at.path().child("key"));
    for (index, value) in texts(wanted, "values").filter(|_| !preferred) {
        judge(names::label_value(value), value, errors, || path().index(index));
    }
}

fn not_an_operator(at: &At<'_>, operator: &str, errors: &mut Errors) {
    let path = at.path().child("operator");
    errors.push(Error::invalid(&path, operator, "not a valid selector operator"));
}

fn node_field(at: &At<'_>, wanted: &Fields, errors: &mut Errors) {
    match text(wanted, "operator") {
        "In" | "NotIn" if list(wanted, "values").len() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&at.path().child("values"), why));
        }
        "In" | "NotIn" => {}
        other => not_an_operator(at, other, errors),
    }
    match text(wanted, "key") {
        "metadata.name" => {
            for (index, value) in texts(wanted, "values") {
                let path = || at.path().child("values").index(index);
                judge(names::dns1123_subdomain(value), value, errors, path);
            }
        }
        key => {
            let why = "not a valid field selector key";
            errors.push(Error::invalid(&at.path().child("key"), key, why));
        }
    }
}

/// Gates are named, each once.
pub(super) fn gates(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut seen = Seen::new();
    for (index, gate) in items(spec, "schedulingGates") {
        let name = text(gate, "name");
        let path = || at.path().child("schedulingGates").index(index);
        judge(names::qualified_name(name), name, errors, path);
        if !seen.add(name) {
            errors.push(Error::duplicate(&path(), Value::from(name)));
        }
    }
}
