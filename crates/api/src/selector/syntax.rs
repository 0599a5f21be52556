//! What a label's key and value may look like, with apimachinery's texts.

const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
     and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// All that is wrong with a label key, joined as Kubernetes joins it; `None` when it is fine.
pub(super) fn label_key_problems(key: &str) -> Option<String> {
    let mut problems = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            prefix_problems(prefix, &mut problems);
            *name
        }
        _ => {
            let hint = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return Some(format!("a qualified name {NAME} {hint}"));
        }
    };
    match name.len() {
        0 => problems.push("name part must be non-empty".into()),
        64.. => problems.push("name part must be no more than 63 bytes".into()),
        _ => {}
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME}"));
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// All that is wrong with a label value; `None` when it is fine.
pub(super) fn label_value_problems(value: &str) -> Option<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 bytes");
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(VALUE);
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn prefix_problems(prefix: &str, problems: &mut Vec<String>) {
    if prefix.is_empty() {
        return problems.push("prefix part must be non-empty".into());
    }
    if prefix.len() > 253 {
        problems.push("prefix part must be no more than 253 bytes".into());
    }
    if !prefix.split('.').all(is_dns_label) {
        problems.push(format!("prefix part {SUBDOMAIN}"));
    }
}

fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|b| b.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_dns_label(label: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    [bytes.first(), bytes.last()].iter().all(|b| b.is_some_and(plain))
        && bytes.iter().all(|b| plain(b) || *b == b'-')
}
