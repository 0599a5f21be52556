//! Forms that `schema/rules.txt` names: what is wrong with a value, in apimachinery's words.

use crate::{Map, Value};

use super::addresses::{self, Cidr};
use super::names;
use crate::field::{Error, Errors, Path};

/// A form of values.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A text; the function tells what is wrong with it.
    Text(fn(&str) -> Vec<String>),
    /// A port number or a port's name.
    PortOrName,
    /// A count, or a share such as `25%`.
    CountOrPercent,
    /// A count, or a share of at most the whole.
    CountOrShare,
    /// Labels: keys and values.
    Labels,
    /// Keys of config maps and secrets.
    ConfigKeys,
    /// A whole number between two others.
    Range(i64, i64),
}

impl Form {
    /// The form of a name in the rules.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "label" => Self::Text(names::dns1123_label),
            "subdomain" => Self::Text(names::dns1123_subdomain),
            "qualified" => Self::Text(names::qualified_name),
            "path-segment" => Self::Text(names::path_segment),
            "port-name" => Self::Text(port_name),
            "env-name" => Self::Text(env_name),
            "cidr" => Self::Text(cidr),
            "port-or-name" => Self::PortOrName,
            "count-or-percent" => Self::CountOrPercent,
            "count-or-share" => Self::CountOrShare,
            "labels" => Self::Labels,
            "config-keys" => Self::ConfigKeys,
            _ => return None,
        })
    }

    /// Checks a value; lists item by item.
    pub fn check(self, path: &dyn Fn() -> Path, value: &Value, errors: &mut Errors) {
        match (self, value) {
            (_, Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.check(&|| path().index(index), item, errors);
                }
            }
            // An empty text is an absent one; whether it may be absent is another rule.
            (Self::Text(_), Value::String(text)) if text.is_empty() => {}
            (Self::Text(wrong), Value::String(text)) => texts(wrong(text), path, value, errors),
            (Self::PortOrName, Value::String(text)) => texts(port_name(text), path, value, errors),
            (Self::PortOrName, Value::Number(_)) => Self::Range(1, 65535).check(path, value, errors),
            (Self::CountOrPercent, Value::String(text)) => texts(percent(text), path, value, errors),
            (Self::CountOrShare, Value::String(text)) => {
                texts(percent(text), path, value, errors);
                texts(share(text), path, value, errors);
            }
            (Self::CountOrPercent | Self::CountOrShare, Value::Number(_)) => {
                Self::Range(0, i64::MAX).check(path, value, errors);
            }
            (Self::Range(min, max), Value::Number(number)) => {
                let found = number.as_i64().and_then(|n| range(n, min, max));
                texts(found.into_iter().collect(), path, value, errors);
            }
            (Self::Labels, Value::Object(entries)) => labels(entries, path, errors),
            (Self::ConfigKeys, Value::Object(entries)) => {
                for key in entries.keys() {
                    judge(config_key(key), key, errors, || path().key(key));
                }
            }
            _ => {}
        }
    }
}

fn texts(found: Vec<String>, path: &dyn Fn() -> Path, value: &Value, errors: &mut Errors) {
    errors.extend(found.into_iter().map(|text| Error::invalid(&path(), value.clone(), &text)));
}

/// Adds what was found wrong with a text.
pub(super) fn judge(found: Vec<String>, text: &str, errors: &mut Errors, path: impl Fn() -> Path) {
    errors.extend(found.into_iter().map(|why| Error::invalid(&path(), text, &why)));
}

fn range(number: i64, min: i64, max: i64) -> Option<String> {
    if (min..=max).contains(&number) {
        return None;
    }
    Some(match (min, max) {
        (1, i64::MAX) => "must be greater than 0".to_owned(),
        (min, i64::MAX) => format!("must be greater than or equal to {min}"),
        (min, max) => format!("must be between {min} and {max}, inclusive"),
    })
}

fn labels(entries: &Map, path: &dyn Fn() -> Path, errors: &mut Errors) {
    for (key, value) in entries {
        judge(names::label_key(key), key, errors, path);
        texts(names::label_value(value.as_str().unwrap_or_default()), path, value, errors);
    }
}

fn one(right: bool, message: &str) -> Vec<String> {
    (!right).then(|| message.to_owned()).into_iter().collect()
}

/// A port's name: at most 15 letters, digits and single hyphens.
pub fn port_name(text: &str) -> Vec<String> {
    let mut found = one(text.len() <= 15, "must be no more than 15 characters");
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    found.extend(one(plain, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"));
    let lettered = text.bytes().any(|b| b.is_ascii_lowercase());
    found.extend(one(lettered, "must contain at least one letter (a-z)"));
    found.extend(one(!text.contains("--"), "must not contain consecutive hyphens"));
    found.extend(one(!text.starts_with('-') && !text.ends_with('-'), "must not begin or end with a hyphen"));
    found
}

fn env_name(text: &str) -> Vec<String> {
    let right = text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    one(
        right,
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    )
}

/// A key of a config map or secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut found = one(text.len() <= 253, "must be no more than 253 characters");
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    found.extend(one(
        plain,
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
         'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    ));
    match text {
        "." => found.push("must not be '.'".into()),
        ".." => found.push("must not be '..'".into()),
        _ => found.extend(one(!text.starts_with(".."), "must not start with '..'")),
    }
    found
}

fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    let right = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    one(
        right,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
         for validation is '[0-9]+%')",
    )
}

fn share(text: &str) -> Vec<String> {
    let over = text.strip_suffix('%').is_some_and(|digits| digits.parse::<u64>().is_ok_and(|n| n > 100));
    one(!over, "must not be greater than 100%")
}

/// An address of either family.
pub(super) fn ip(text: &str) -> Vec<String> {
    let right = text.parse::<std::net::IpAddr>().is_ok();
    one(right, addresses::NOT_IP)
}

/// A range of addresses.
pub(super) fn cidr(text: &str) -> Vec<String> {
    one(text.parse::<Cidr>().is_ok(), addresses::NOT_CIDR)
}

/// A path that does not climb.
pub(super) fn no_backsteps(text: &str) -> Vec<String> {
    one(!text.split('/').any(|part| part == ".."), "must not contain '..'")
}

/// A path down from where one is.
pub(super) fn descending(text: &str) -> Vec<String> {
    let mut found = one(!text.starts_with('/'), "must be a relative path");
    found.extend(no_backsteps(text));
    found
}

/// The same, and its first part is none that only looks like a step back.
pub(super) fn local_path(text: &str) -> Vec<String> {
    let mut found = descending(text);
    found.extend(one(!text.starts_with("..") || text.starts_with("../"), "must not start with '..'"));
    found
}
