//! Other resources for a running pod: CPU and memory of containers that last.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::{Text, Value};

use super::{qos_class, update};
use crate::registry::tree;

/// Checks a change that the endpoint has narrowed to resources and resize policies.
pub(super) fn validate(pod: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let why = if update::is_mirror(old) {
        "static pods cannot be resized"
    } else if tree::text(old, &["spec", "os", "name"]) == "windows" {
        "windows pods cannot be resized"
    } else {
        ""
    };
    if !why.is_empty() {
        errors.push(Error::forbidden(&Path::default(), why));
        return;
    }
    let was = match tree::text(old, &["status", "qosClass"]) {
        "" => qos_class(old),
        class => class,
    };
    if was != qos_class(pod) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&path, was, why));
    }
    for (list, lasting) in [("containers", true), ("initContainers", false)] {
        let new = tree::items(pod, &["spec", list]).iter();
        for (index, (new, before)) in new.zip(tree::items(old, &["spec", list])).enumerate() {
            let sidecar = tree::text(new, &["restartPolicy"]) == "Always";
            if lasting || sidecar {
                removed(new, before, &|| path.child(list).index(index).child("resources"), errors);
            }
            let why = match (lasting, sidecar) {
                (true, _) if !only_usual(new, before) => "only cpu and memory resources are mutable",
                (false, true) if !only_usual(new, before) => {
                    "only cpu and memory resources for sidecar containers are mutable"
                }
                (false, false) if new != before => "resources for non-sidecar init containers are immutable",
                _ => continue,
            };
            errors.push(Error::forbidden(&path, why));
        }
    }
}

fn removed(new: &Value, before: &Value, path: &dyn Fn() -> Path, errors: &mut Errors) {
    for kind in ["requests", "limits"] {
        let amounts = |container| tree::at(container, &["resources", kind]);
        let kept = |name: &Text| amounts(new).get(name).is_some();
        if !amounts(before).as_object().into_iter().flat_map(|amounts| amounts.keys()).all(kept) {
            errors.push(Error::forbidden(&path().child(kind), &format!("resource {kind} cannot be removed")));
        }
    }
}

/// Whether nothing but CPU and memory, and the policy about them, changed.
fn only_usual(new: &Value, before: &Value) -> bool {
    let mut new = new.clone();
    for kind in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            let path = ["resources", kind, name];
            if !tree::at(before, &["resources", kind]).is_null() || !tree::at(&new, &path).is_null() {
                tree::set(&mut new, &path, tree::at(before, &path).clone());
            }
        }
        let empty =
            tree::at(&new, &["resources", kind]).as_object().is_some_and(|amounts| amounts.is_empty());
        if empty && tree::at(before, &["resources", kind]).is_null() {
            tree::set(&mut new, &["resources", kind], Value::Null);
        }
    }
    tree::set(&mut new, &["resizePolicy"], tree::at(before, &["resizePolicy"]).clone());
    new == *before
}
