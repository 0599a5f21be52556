//! Forms of names, labels and keys, with apimachinery's messages.
//!
//! Each function returns what is wrong with a text: nothing when it is right.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::schema::RULES;

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
     must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
     is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
     an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
     an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Form of a resource's object names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain: most kinds.
    Subdomain,
    /// DNS-1123 label.
    Label,
    /// DNS-1035 label.
    Dns1035,
    /// Anything that can be one segment of a URL path.
    Path,
}

static RULE_OF: LazyLock<HashMap<&str, NameRule>> = LazyLock::new(|| {
    let lines = RULES.lines().filter_map(|line| line.strip_prefix("name ")?.split_once(' '));
    lines
        .filter_map(|(resource, rule)| {
            Some((
                resource,
                match rule {
                    "label" => NameRule::Label,
                    "dns1035" => NameRule::Dns1035,
                    "path" => NameRule::Path,
                    _ => return None,
                },
            ))
        })
        .collect()
});

/// The rule for object names of a group-resource, as `pods` or `deployments.apps`.
pub fn name_rule(group_resource: &str) -> NameRule {
    RULE_OF.get(group_resource).copied().unwrap_or(NameRule::Subdomain)
}

impl NameRule {
    /// What is wrong with a name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => dns1123_subdomain(name),
            Self::Label => dns1123_label(name),
            Self::Dns1035 => dns1035_label(name),
            Self::Path => path_segment(name),
        }
    }

    /// What is wrong with a prefix that a name will be made from.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        match (self, prefix.strip_suffix('-')) {
            (Self::Path, _) => path_segment(prefix),
            // What follows the dash is letters and digits.
            (rule, Some(_)) => rule.check(&format!("{prefix}a")),
            (rule, None) => rule.check(prefix),
        }
    }
}

fn too_long(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} bytes"))
}

fn verdict(length: Option<String>, right: bool, message: &str) -> Vec<String> {
    length.into_iter().chain((!right).then(|| message.to_owned())).collect()
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges =
        text.bytes().next().is_some_and(alphanumeric) && text.bytes().next_back().is_some_and(alphanumeric);
    edges && text.bytes().all(|b| alphanumeric(b) || b == b'-')
}

fn is_word(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS-1123 label: at most 63 bytes.
pub fn dns1123_label(text: &str) -> Vec<String> {
    verdict(too_long(text, 63), is_label(text), DNS1123_LABEL)
}

/// A DNS-1123 subdomain: at most 253 bytes.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    verdict(too_long(text, 253), text.split('.').all(is_label), DNS1123_SUBDOMAIN)
}

/// A DNS-1035 label: at most 63 bytes, first a letter.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let right = is_label(text) && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    verdict(too_long(text, 63), right, DNS1035_LABEL)
}

/// One segment of a URL path.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => ['/', '%']
            .iter()
            .filter(|c| text.contains(**c))
            .map(|c| format!("may not contain '{c}'"))
            .collect(),
    }
}

/// `name` or `example.com/name`: keys of labels and annotations, finalizers.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(dns1123_subdomain(prefix).iter().map(|e| format!("prefix part {e}")));
            }
            *name
        }
        _ => {
            let hint = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {QUALIFIED_NAME} {hint}")];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else {
        errors.extend(too_long(name, 63).map(|e| format!("name part {e}")));
    }
    if !is_word(name) {
        errors.push(format!("name part {QUALIFIED_NAME}"));
    }
    errors
}

/// A label's key.
pub fn label_key(text: &str) -> Vec<String> {
    qualified_name(text)
}

/// A label's value: at most 63 bytes, may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    verdict(too_long(text, 63), text.is_empty() || is_word(text), LABEL_VALUE)
}
