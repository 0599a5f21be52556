//! Field names that are no names in an expression: `x-y` is written `x__dash__y`, `namespace` is `__namespace__`.

use std::borrow::Cow;

use tiphys_api::validate::{CEL_RESERVED, CEL_WORDS};

const SIGNS: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// Words of the language, and those that it keeps for itself.
fn is_word(name: &str) -> bool {
    CEL_WORDS.contains(&name) || CEL_RESERVED.contains(&name)
}

/// How an expression writes a field's name; `None` if it cannot.
pub fn escape(name: &str) -> Option<Cow<'_, str>> {
    if is_word(name) {
        return Some(format!("__{name}__").into());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
        return None;
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return Some(name.into());
    }
    let mut escaped = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (written, taken) = match SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign)) {
            Some((sign, written)) => (written, sign.len()),
            None => (rest.get(..first.len_utf8()).unwrap_or_default(), first.len_utf8()),
        };
        escaped.push_str(written);
        rest = rest.get(taken..).unwrap_or_default();
    }
    Some(escaped.into())
}

/// The field's name that an expression means.
pub fn unescape(written: &str) -> Cow<'_, str> {
    if !written.contains("__") {
        return written.into();
    }
    let word = written.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = word.filter(|word| is_word(word)) {
        return word.to_owned().into();
    }
    let mut name = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(first) = rest.chars().next() {
        let found = SIGNS.into_iter().find(|(_, escaped)| rest.starts_with(escaped));
        let (sign, taken) = match found {
            Some((sign, escaped)) => (sign, escaped.len()),
            None => (rest.get(..first.len_utf8()).unwrap_or_default(), first.len_utf8()),
        };
        name.push_str(sign);
        rest = rest.get(taken..).unwrap_or_default();
    }
    name.into()
}
