//! Forms of names, labels and keys, with apimachinery's messages.
//!
//! Each function returns what is wrong with a text: nothing when it is right.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::gvr::Gvr;
use crate::schema::RULES;

/// Words of CEL that are no names: its literals and an operator.
pub const CEL_WORDS: [&str; 4] = ["true", "false", "null", "in"];

/// Words that CEL keeps for itself (its language definition, "Reserved words").
pub const CEL_RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
     must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation \
     is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SEARCH_PATH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' \
     or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
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

/// A resource and its group.
pub(super) type Name<'n> = (&'n str, &'n str);

static RULE_OF: LazyLock<HashMap<Name<'static>, NameRule>> = LazyLock::new(|| {
    let lines = RULES.lines().filter_map(|line| line.strip_prefix("name ")?.split_once(' '));
    lines
        .filter_map(|(resource, rule)| {
            Some((
                resource.split_once('.').unwrap_or((resource, "")),
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

/// The rule for the names of a resource's objects.
pub fn name_rule(gvr: &Gvr) -> NameRule {
    let rules: &HashMap<Name<'_>, NameRule> = &RULE_OF;
    rules.get(&(gvr.resource.as_ref(), gvr.group.as_ref())).copied().unwrap_or(NameRule::Subdomain)
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

/// The same for names of hosts, where Kubernetes counts bytes but speaks of characters.
fn too_many_characters(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} characters"))
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
    let message =
        if text.contains('.') && is_subdomain(text) { "must not contain dots" } else { DNS1123_LABEL };
    verdict(too_many_characters(text, 63), is_label(text), message)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// A DNS-1123 subdomain: at most 253 bytes.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    verdict(too_many_characters(text, 253), is_subdomain(text), DNS1123_SUBDOMAIN)
}

/// A DNS-1123 subdomain in letters of any case, as CSI drivers are named.
pub(super) fn any_case_subdomain(text: &str) -> Vec<String> {
    match dns1123_subdomain(text) {
        found if found.is_empty() => found,
        _ => dns1123_subdomain(&text.to_lowercase()),
    }
}

/// A path that resolvers search: a subdomain that may have underscores.
pub(super) fn search_path(text: &str) -> Vec<String> {
    let part = |part: &str| {
        let rest = part.strip_prefix('_').unwrap_or(part);
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        rest.bytes().next().is_some_and(plain)
            && rest.bytes().next_back().is_some_and(plain)
            && rest.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_'))
    };
    verdict(too_many_characters(text, 253), text.split('.').all(part), SEARCH_PATH)
}

/// A DNS-1035 label: at most 63 bytes, first a letter.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let right = is_label(text) && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    verdict(too_many_characters(text, 63), right, DNS1035_LABEL)
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
    let mut parts = text.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            let hint = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {QUALIFIED_NAME} {hint}")];
        }
    };
    match prefix {
        None => {}
        Some("") => errors.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            errors.extend(dns1123_subdomain(prefix).iter().map(|e| format!("prefix part {e}")));
        }
    }
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

/// A qualified name in letters of any case: keys of annotations.
pub(super) fn any_case_qualified_name(text: &str) -> Vec<String> {
    match qualified_name(text) {
        found if found.is_empty() => found,
        _ => qualified_name(&text.to_lowercase()),
    }
}

/// A label's key.
pub fn label_key(text: &str) -> Vec<String> {
    qualified_name(text)
}

/// A label's value: at most 63 bytes, may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    verdict(too_long(text, 63), text.is_empty() || is_word(text), LABEL_VALUE)
}
