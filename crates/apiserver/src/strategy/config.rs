//! ConfigMaps and Secrets: those marked immutable never change, and `stringData` is only a way to write `data`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tiphys_api::Value;
use tiphys_api::field::{Error, Errors, Path};

use super::Rules;
use crate::registry::tree;

pub(super) const CONFIG_MAPS: Rules = Rules { validate_update, ..Rules::DEFAULT };
pub(super) const SECRETS: Rules = Rules { normalize: encode_strings, validate_update, ..Rules::DEFAULT };

fn encode_strings(secret: &mut Value) {
    let Some(Value::Object(strings)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) else {
        return;
    };
    for (key, value) in strings {
        let text = value.as_str().unwrap_or_default();
        tree::set(secret, &["data", &key], STANDARD.encode(text).into());
    }
}

fn validate_update(new: &Value, old: &Value, _: &str, errors: &mut Errors) {
    let immutable = |object| tree::at(object, &["immutable"]) == &Value::Bool(true);
    if !immutable(old) {
        return;
    }
    let mut refuse = |name: &str| {
        errors.push(Error::forbidden(&Path::new(name), "field is immutable when `immutable` is set"));
    };
    if !immutable(new) {
        refuse("immutable");
    }
    for name in ["data", "binaryData"] {
        if tree::at(new, &[name]) != tree::at(old, &[name]) {
            refuse(name);
        }
    }
}
