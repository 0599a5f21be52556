//! Who asks, told to an extension server in the headers that it reads from nobody but this server.
//!
//! What a client sends under these names never passes: it would be believed.

use http::{HeaderMap, HeaderName, HeaderValue};
use tiphys_api::Status;

use crate::auth::User;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// Puts a user into a request's headers, in the place of whatever stood there.
pub fn put_on(user: &User, headers: &mut HeaderMap) -> Result<(), Status> {
    let claims = |name: &&HeaderName| [USER, UID, GROUP].contains(name) || name.as_str().starts_with(EXTRA);
    let claimed: Vec<HeaderName> = headers.keys().filter(claims).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let name = HeaderName::try_from(format!("{EXTRA}{}", escape(key))).map_err(Status::internal)?;
        for each in values {
            headers.append(name.clone(), value(each)?);
        }
    }
    Ok(())
}

/// A name with a line break in it cannot be told.
fn value(text: &str) -> Result<HeaderValue, Status> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(Status::internal)
}

/// Keys hold bytes that header names may not; these are percent-encoded.
fn escape(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_claims_to_be_is_replaced() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("x-remote-group", "more"),
            ("x-remote-uid", "0"),
            ("x-remote-extra-scopes", "all"),
            ("x-other", "stays"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let extra = vec![("authentication.kubernetes.io/pod-name".to_owned(), vec!["p".to_owned()])];
        let user =
            User { name: "jane".into(), groups: vec!["a".into(), "b".into()], extra, ..User::default() };
        put_on(&user, &mut headers).unwrap();
        let mut seen: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("x-other", "stays"),
                ("x-remote-extra-authentication.kubernetes.io%2fpod-name", "p"),
                ("x-remote-group", "a"),
                ("x-remote-group", "b"),
                ("x-remote-user", "jane"),
            ]
        );
        let broken = User { name: "a\r\nX-Remote-Group: system:masters".into(), ..User::default() };
        assert!(put_on(&broken, &mut HeaderMap::new()).is_err());
    }
}
