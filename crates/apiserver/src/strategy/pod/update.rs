//! What may change of a pod while it lives: little, and mostly in one direction.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate::{ByText, Seen};
use tiphys_api::{Text, Value};

use crate::registry::tree;

const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Whether a pod stands for one that a kubelet runs from a file.
pub(super) fn is_mirror(pod: &Value) -> bool {
    !tree::at(pod, &["metadata", "annotations", MIRROR]).is_null()
}

/// Annotations that say how the pod came to be stay as they are.
pub(super) fn annotations(pod: &Value, old: &Value, errors: &mut Errors) {
    let all = |pod| tree::at(pod, &["metadata", "annotations"]);
    let (new, before) = (all(pod), all(old));
    if new == before {
        return;
    }
    let path = |key: &str| Path::new("metadata").child("annotations").key(key);
    let mut refuse = |key: &str, verb: &str| {
        let what = match key {
            MIRROR => "mirror pod annotation",
            key if key.starts_with(APP_ARMOR) => "AppArmor annotations",
            _ => return,
        };
        errors.push(Error::forbidden(&path(key), &format!("may not {verb} {what}")));
    };
    for (key, value) in before.as_object().into_iter().flatten() {
        if new.get(key) != Some(value) {
            refuse(key, "remove or update");
        }
    }
    for key in new.as_object().into_iter().flat_map(|new| new.keys()) {
        if before.get(key).is_none() {
            refuse(key, "add");
        }
    }
}

/// The pod itself.
pub(super) fn spec(pod: &Value, old: &Value, errors: &mut Errors) {
    if pod.get("spec") == old.get("spec") {
        return;
    }
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        let count = |pod| tree::items(pod, &["spec", list]).len();
        if count(pod) != count(old) {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
    }
    if !deadline(pod, old, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(pod, old, &path.child("tolerations"), errors);
    gates(pod, old, &path.child("schedulingGates"), errors);
    if !tree::items(old, &["spec", "schedulingGates"]).is_empty() {
        node_selector(pod, old, &path.child("nodeSelector"), errors);
        node_affinity(pod, old, errors);
    }
    if !same_but_for_changeable(pod, old) {
        errors.push(Error::forbidden(&path, UNCHANGEABLE));
    }
}

/// A deadline only comes nearer. False when nothing more is to be judged.
fn deadline(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) -> bool {
    let deadline = |pod| tree::at(pod, &["spec", "activeDeadlineSeconds"]).as_i64();
    match (deadline(pod), deadline(old)) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(Error::invalid(path, new, why));
            false
        }
        (Some(new), Some(before)) if new > before => {
            errors.push(Error::invalid(path, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(path, Value::Null, why));
            true
        }
        _ => true,
    }
}

fn tolerations(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    fn identity(toleration: &Value) -> [&Value; 4] {
        ["key", "operator", "value", "effect"].map(|name| tree::at(toleration, &[name]))
    }
    let mut kept = Seen::new();
    for toleration in tree::items(pod, &["spec", "tolerations"]) {
        kept.add(identity(toleration));
    }
    if !tree::items(old, &["spec", "tolerations"]).iter().all(|before| kept.has(identity(before))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(path, why));
    }
}

fn gates(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let mut before = Seen::new();
    for gate in tree::items(old, &["spec", "schedulingGates"]) {
        before.add(gate);
    }
    for (index, gate) in tree::items(pod, &["spec", "schedulingGates"]).iter().enumerate() {
        if !before.has(gate) {
            let name = tree::text(gate, &["name"]);
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&path.index(index).child("name"), &why));
        }
    }
}

/// The choice of nodes for a pod that waits at a gate only narrows.
fn node_selector(pod: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let selector = |pod| tree::at(pod, &["spec", "nodeSelector"]);
    let (new, before) = (selector(pod), selector(old));
    let kept = |(key, value): (&Text, &Value)| new.get(key) == Some(value);
    if !before.as_object().into_iter().flatten().all(kept) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Error::invalid(path, new.clone(), why));
    }
}

fn node_affinity(pod: &Value, old: &Value, errors: &mut Errors) {
    const TERMS: [&str; 5] = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    let (new, before) = (tree::items(pod, &TERMS), tree::items(old, &TERMS));
    let path = || TERMS.iter().fold(Path::default(), |path, name| path.child(name));
    if before.is_empty() {
        return;
    }
    if new.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(Error::invalid(&path(), new.to_vec(), why));
        return;
    }
    for (index, (new, before)) in new.iter().zip(before).enumerate() {
        if !only_adds(new, before) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(Error::invalid(&path().index(index), new.clone(), why));
        }
    }
}

fn only_adds(new: &Value, before: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let items = |term, list| tree::items(term, &[list]);
    let was_empty = lists.iter().all(|list| items(before, *list).is_empty());
    let is_empty = lists.iter().all(|list| items(new, *list).is_empty());
    (!was_empty || is_empty) && lists.iter().all(|list| items(new, *list).starts_with(items(before, *list)))
}

/// Whether the specs agree once what may change is taken from the old one.
fn same_but_for_changeable(pod: &Value, old: &Value) -> bool {
    let mut spec = tree::at(pod, &["spec"]).clone();
    let before = tree::at(old, &["spec"]);
    let mut keep = |path: &[&str]| tree::set(&mut spec, path, tree::at(before, path).clone());
    for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(&[name]);
    }
    if !tree::items(before, &["schedulingGates"]).is_empty() {
        keep(&["nodeSelector"]);
        keep(&["affinity", "nodeAffinity"]);
    }
    let grace = |spec| tree::at(spec, &["terminationGracePeriodSeconds"]).as_i64();
    if grace(before).is_some_and(|seconds| seconds < 0) && grace(tree::at(pod, &["spec"])) == Some(1) {
        keep(&["terminationGracePeriodSeconds"]);
    }
    if tree::at(before, &["affinity"]).is_null()
        && spec.get("affinity").and_then(Value::as_object).is_some_and(|affinity| affinity.is_empty())
    {
        tree::set(&mut spec, &["affinity"], Value::Null);
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, before) in containers.zip(tree::items(before, &[list])) {
            tree::set(container, &["image"], tree::at(before, &["image"]).clone());
        }
    }
    spec == *before
}

/// Containers that look into a pod come and never change.
pub(super) fn ephemeral(pod: &Value, old: &Value, errors: &mut Errors) {
    if is_mirror(old) {
        let why = "static pods do not support ephemeral containers";
        errors.push(Error::forbidden(&Path::default(), why));
        return;
    }
    let new = ByText::new(tree::items(pod, &["spec", "ephemeralContainers"]), "name");
    let path = Path::new("spec").child("ephemeralContainers");
    for before in tree::items(old, &["spec", "ephemeralContainers"]) {
        let name = tree::text(before, &["name"]);
        let verb = match new.get(name) {
            None => "removed",
            Some(after) if Some(after) != before.as_object() => "changed",
            Some(_) => continue,
        };
        let why = format!("existing ephemeral containers {name:?} may not be {verb}\n");
        errors.push(Error::forbidden(&path, &why));
    }
}
