//! Names of containers: unique over all three lists.

use super::{At, Fields, Seen, items, text};
use crate::field::{Error, Errors};

/// Reports each name that stands again; ephemeral containers may name a target that is not ephemeral.
pub(super) fn unique(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let mut names = Seen::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, list) {
            add(&at.child(list).index(index), container, &mut names, errors);
        }
    }
    for (index, container) in items(spec, "ephemeralContainers") {
        let place = at.child("ephemeralContainers");
        let place = place.index(index);
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !has_lasting(spec, target) {
            errors.push(Error::not_found(&place.path().child("targetContainerName"), target));
        }
        add(&place, container, &mut names, errors);
    }
}

fn has_lasting(spec: &Fields, name: &str) -> bool {
    let lists = ["containers", "initContainers"].into_iter();
    lists.flat_map(|list| items(spec, list)).any(|(_, container)| text(container, "name") == name)
}

fn add<'s>(at: &At<'_>, container: &'s Fields, names: &mut Seen<&'s str>, errors: &mut Errors) {
    let name = text(container, "name");
    if !name.is_empty() && !names.add(name) {
        errors.push(Error::duplicate(&at.path().child("name"), name));
    }
}
