//! Selectors of labels, wherever they stand.

use super::{At, Fields, judge, list, text, texts};
use crate::field::{Error, Errors};
use crate::validate::names;

/// Operators with and without values; keys and values that labels can have.
pub(super) fn requirement(at: &At<'_>, requirement: &Fields, errors: &mut Errors) {
    let empty = list(requirement, "values").is_empty();
    match text(requirement, "operator") {
        "In" | "NotIn" if empty => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&at.path().child("values"), why));
        }
        "Exists" | "DoesNotExist" if !empty => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&at.path().child("values"), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let path = at.path().child("operator");
            errors.push(Error::invalid(&path, other, "not a valid selector operator"));
        }
    }
    let key = text(requirement, "key");
    judge(names::label_key(key), key, errors, || at.path().child("key"));
    for (index, value) in texts(requirement, "values") {
        judge(names::label_value(value), value, errors, || at.path().child("values").index(index));
    }
}
