//! `managedFields`: who is the manager of a write, and the books kept for it.

use jiff::Timestamp;
use tiphys_api::apply::{self, Write};
use tiphys_api::{Gvk, Status, Value, field};

use super::request::{PatchType, Request, WriteParams};

const MANAGER_MAX: usize = 128;

/// Keeps the books for a create (`live` is `None`), update or patch that is no apply.
pub(super) fn record(request: &Request<'_>, params: &WriteParams, live: Option<&Value>, new: &mut Value) {
    let manager = manager(params);
    apply::record_update(&write(request, &manager), live, new);
}

/// Merges an applied configuration.
pub(super) fn merge(
    request: &Request<'_>,
    params: &WriteParams,
    live: Option<&Value>,
    config: &Value,
) -> Result<Value, Status> {
    let manager = manager(params);
    apply::apply(&write(request, &manager), live, config, params.force).map_err(|e| e.status())
}

fn write<'w>(request: &'w Request<'_>, manager: &'w str) -> Write<'w> {
    let (resource, subresource) = (request.resource.as_ref(), request.subresource);
    Write { resource, subresource, manager, now: Timestamp::now() }
}

/// The manager's name: the one given, or the beginning of the user agent.
fn manager(params: &WriteParams) -> String {
    let name = match params.field_manager.as_str() {
        "" => params.user_agent.split('/').next().unwrap_or_default(),
        given => given,
    };
    let name: String = name.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// Checks the form of a manager's name: so long, and of characters that are shown.
pub fn check_manager(manager: &str, errors: &mut field::Errors) {
    let path = field::Path::new("fieldManager");
    if manager.len() > MANAGER_MAX {
        errors.push(field::Error::too_long(&path, MANAGER_MAX));
    }
    errors.extend(manager.char_indices().filter(|(_, c)| !is_printable(*c)).map(|(at, c)| {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        field::Error::invalid(&path, manager, &why)
    }));
}

/// Whether a character is one that Go calls printable: beyond ASCII, Rust's escapes for debugging spare the same ones.
/// (Marks are only escaped where they come first.)
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let text = ['a', c].iter().collect::<String>();
    text.escape_debug().eq(text.chars())
}

/// Checks the options that are about managers; `options` is their kind, as errors name it.
pub(super) fn check(
    options: &'static str,
    params: &WriteParams,
    form: Option<PatchType>,
) -> Result<(), Status> {
    let mut errors = field::Errors::new();
    let path = field::Path::new("fieldManager");
    if form == Some(PatchType::Apply) && params.field_manager.is_empty() {
        errors.push(field::Error::required(&path, "is required for apply patch"));
    }
    if form.is_some_and(|form| form != PatchType::Apply) && params.force {
        let why = "may not be specified for non-apply patch";
        errors.push(field::Error::forbidden(&field::Path::new("force"), why));
    }
    check_manager(&params.field_manager, &mut errors);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", options), "", &errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_have_printable_names() {
        let wrong = |manager: &str| {
            let mut errors = field::Errors::new();
            check_manager(manager, &mut errors);
            errors
                .iter()
                .map(|e| e.body.rsplit(": ").next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(wrong("kubectl-client-side-apply \"é\u{301}漢'\\"), [""; 0]);
        assert_eq!(
            wrong("a\u{200b}\u{a0}b\n"),
            ["U+200B (at position 1)", "U+00A0 (at position 4)", "U+000A (at position 7)"]
                .map(|what| format!("invalid character {what}"))
        );
    }
}
