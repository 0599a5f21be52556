//! Kinds that others rely on as they are: classes of storage and priority, bindings of roles, ranges of addresses.

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::validate::ByText;
use tiphys_api::{Map, Value};

use super::{Rules, status};
use crate::registry::tree;

const PLAIN: Rules = Rules::DEFAULT;
const COUNTED: Rules = Rules { generation: true, ..PLAIN };

pub(super) const STORAGE: Rules = Rules { validate_update: storage, ..PLAIN };
pub(super) const VOLUME_ATTRIBUTES: Rules = Rules { validate_update: volume_attributes, ..PLAIN };
pub(super) const CSI_NODES: Rules = Rules { validate_update: csi_node, ..PLAIN };
pub(super) const PRIORITIES: Rules = Rules { validate_update: priority, ..COUNTED };
pub(super) const BINDINGS: Rules = Rules { create_on_update: true, validate_update: role_ref, ..PLAIN };
pub(super) const SERVICE_CIDRS: Rules = Rules { validate_update: service_cidr, ..COUNTED };
pub(super) const AUTOSCALERS: Rules = Rules { validate_update: status::autoscaler, ..PLAIN };

fn forbid(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    for name in fields {
        if new.get(name) != old.get(name) {
            let why = format!("updates to {name} are forbidden.");
            errors.push(Error::forbidden(&Path::new(*name), &why));
        }
    }
}

fn storage(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    forbid(new, old, &["parameters", "provisioner", "reclaimPolicy"], errors);
}

fn volume_attributes(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    forbid(new, old, &["driverName", "parameters"], errors);
}

/// What a driver says of its node stays, but for how many volumes it can attach.
fn csi_node(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let same = |driver: &Value, known: &Map| {
        ["nodeID", "topologyKeys"].iter().all(|name| driver.get(name) == known.get(name))
    };
    let before = ByText::new(tree::items(old, &["spec", "drivers"]), "name");
    for driver in tree::items(new, &["spec", "drivers"]) {
        let known = before.get(tree::text(driver, &["name"]));
        if known.is_some_and(|known| !same(driver, known)) {
            let path = Path::new("spec").child("drivers");
            errors.push(Error::invalid(&path, driver.clone(), "field is immutable"));
        }
    }
}

fn priority(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    if new.get("value") != old.get("value") {
        errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
}

fn role_ref(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let role = tree::at(new, &["roleRef"]);
    if role != tree::at(old, &["roleRef"]) {
        errors.push(Error::invalid(&Path::new("roleRef"), role.clone(), "cannot change roleRef"));
    }
}

/// The ranges stay; a second one may come.
fn service_cidr(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let path = Path::new("spec").child("cidrs");
    let (wanted, before) = (tree::items(new, &["spec", "cidrs"]), tree::items(old, &["spec", "cidrs"]));
    if wanted.len() != before.len() && !(before.len() == 1 && wanted.len() == 2) {
        errors.push(Error::invalid(&path, wanted.to_vec(), "field is immutable"));
        return;
    }
    for (index, (wanted, _)) in wanted.iter().zip(before).enumerate().filter(|(_, (w, b))| w != b) {
        errors.push(Error::invalid(&path.index(index), wanted.clone(), "field is immutable"));
    }
}
