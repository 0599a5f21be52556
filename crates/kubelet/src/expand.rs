//! `$(NAME)` in commands, arguments and environment: replaced by a variable's value; `$$` is a plain `$`; a name that is
//! not known stays as it was written.

/// Expands one text.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_escapes_and_unknown_names() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        let cases = [
            ("$(A)-$(B)-$$(A)", "1-$(B)-$(A)"),
            ("$A $(A", "$A $(A"),
            ("x$", "x$"),
            ("$$$(A)", "$1"),
            ("é$(A)é", "é1é"),
        ];
        for (text, expanded) in cases {
            assert_eq!(expand(text, &lookup), expanded, "{text}");
        }
    }
}
