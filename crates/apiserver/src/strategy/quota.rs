//! Resource quotas: their scopes are for life.

use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::registry::tree;

pub(super) const QUOTAS: Rules = Rules { validate_update, ..Rules::DEFAULT };

fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let scopes = |quota| tree::items(quota, &["spec", "scopes"]);
    let (now, before) = (scopes(new), scopes(old));
    let same = now.iter().all(|scope| before.contains(scope)) && before.iter().all(|s| now.contains(s));
    if !same {
        let value = tree::at(new, &["spec", "scopes"]).clone();
        errors.push(Error::invalid(&Path::new("spec").child("scopes"), value, "field is immutable"));
    }
}
