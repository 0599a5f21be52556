//! `resourceVersion`, `resourceVersionMatch` and `sendInitialEvents`: what they mean together, and how a wrong mix is
//! refused.

use tiphys_api::{Gvk, Status, field};

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// All that is committed by now.
    Newest,
    /// Any state at or after this revision; 0 for whatever is at hand.
    NotOlder(u64),
    /// The state at this revision.
    Exact(u64),
}

/// Reads a `resourceVersion`; `None` when unset.
pub fn parse(text: &str) -> Result<Option<u64>, Status> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let path = field::Path::new("resourceVersion");
            let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
            Status::bad_request(field::Error::invalid(&path, text, &why).to_string())
        }),
    }
}

/// What a list's two parameters ask for.
pub fn list_match(version: &str, matching: &str) -> Result<Match, Status> {
    let mut errors = field::Errors::new();
    check_match(version, matching, &mut errors);
    refuse(&errors)?;
    match (parse(version)?, matching) {
        (None, _) => Ok(Match::Newest),
        (Some(revision), "Exact") => Ok(Match::Exact(revision)),
        (Some(revision), _) => Ok(Match::NotOlder(revision)),
    }
}

fn check_match(version: &str, matching: &str, errors: &mut field::Errors) {
    let path = field::Path::new("resourceVersionMatch");
    if matching.is_empty() {
        return;
    }
    if version.is_empty() {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        errors.push(field::Error::forbidden(&path, why));
    }
    if !matches!(matching, "Exact" | "NotOlderThan") {
        errors.push(field::Error::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
    }
    if matching == "Exact" && version == "0" {
        let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        errors.push(field::Error::forbidden(&path, why));
    }
}

/// Checks a watch's parameters together.
pub fn check_watch(matching: &str, send_initial: Option<bool>) -> Result<(), Status> {
    let path = field::Path::new("resourceVersionMatch");
    let mut errors = field::Errors::new();
    if send_initial.is_some() && matching != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(field::Error::forbidden(&path, why));
    }
    if send_initial.is_none() && !matching.is_empty() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(field::Error::forbidden(&path, why));
    }
    refuse(&errors)
}

fn refuse(errors: &field::Errors) -> Result<(), Status> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", "ListOptions"), "", errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_matches() {
        assert_eq!(list_match("", "").unwrap(), Match::Newest);
        assert_eq!(list_match("0", "").unwrap(), Match::NotOlder(0));
        assert_eq!(list_match("7", "Exact").unwrap(), Match::Exact(7));
        let refused = |v, m| list_match(v, m).unwrap_err().message;
        assert_eq!(
            refused("", "Exact"),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
             forbidden unless resourceVersion is provided"
        );
        assert!(refused("0", "Exact").contains("is forbidden for resourceVersion \"0\""));
        assert_eq!(
            refused("x", ""),
            "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert!(check_watch("", Some(true)).is_err() && check_watch("NotOlderThan", Some(true)).is_ok());
    }
}
