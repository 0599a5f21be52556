//! Names of containers: unique over all three lists.

use super::{At, Fields, Seen, items, text};
use crate::field::{Error, Errors};

/// Reports each name that stands again; ephemeral containers may name a target that is not ephemeral.
pub(super) fn unique(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let (mut names, mut later) = (Seen::new(), Seen::new());
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, list) {
            let name = text(container, "name");
            if !name.is_empty() && !names.add(name) {
                again(&at.child(list).index(index), name, errors);
            }
        }
    }
    for (index, container) in items(spec, "ephemeralContainers") {
        let place = at.child("ephemeralContainers");
        let place = place.index(index);
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !names.has(target) {
            errors.push(Error::not_found(&place.path().child("targetContainerName"), target));
        }
        let name = text(container, "name");
        if !name.is_empty() && (names.has(name) || !later.add(name)) {
            again(&place, name, errors);
        }
    }
}

fn again(at: &At<'_>, name: &str, errors: &mut Errors) {
    errors.push(Error::duplicate(&at.path().child("name"), name));
}
