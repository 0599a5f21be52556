//! Acting as somebody else (`kubectl --as`): allowed only as far as the caller may `impersonate` each part.

use http::HeaderMap;
use tiphys_api::Status;

use super::groups::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, split_service_account};
use super::{Attributes, Authorizer, Decision, User, forbidden};

/// What all of them begin with.
const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user a request acts as: `None` when its headers do not ask for another.
pub async fn impersonate(
    authorizer: &dyn Authorizer,
    caller: &User,
    headers: &HeaderMap,
) -> Result<Option<User>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(None) };
    let gate = Gate { authorizer, caller };
    match split_service_account(&wanted.name) {
        Some((namespace, name)) => gate.check("", "serviceaccounts", "", namespace, name).await?,
        None => gate.check("", "users", "", "", &wanted.name).await?,
    }
    for group in &wanted.groups {
        gate.check("", "groups", "", "", group).await?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            gate.check(AUTHENTICATION, "userextras", key, "", value).await?;
        }
    }
    if !wanted.uid.is_empty() {
        gate.check(AUTHENTICATION, "uids", "", "", &wanted.uid).await?;
    }
    Ok(Some(completed(wanted)))
}

struct Gate<'a> {
    authorizer: &'a dyn Authorizer,
    caller: &'a User,
}

impl Gate<'_> {
    async fn check(
        &self,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        let asked = Attributes {
            user: self.caller,
            verb: "impersonate",
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            path: "",
        };
        match self.authorizer.authorize(&asked).await {
            Decision::Allow => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(&asked, &reason)),
        }
    }
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(None);
    }
    let mut user = User { name: first(headers, USER), uid: first(headers, UID), ..User::default() };
    user.groups = all(headers, GROUP);
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            user.extra.push((unescape(key), all(headers, name.as_str())));
        }
    }
    let parts = !user.groups.is_empty() || !user.extra.is_empty() || !user.uid.is_empty();
    match (user.name.is_empty(), parts) {
        (false, _) => Ok(Some(user)),
        (true, false) => Ok(None),
        (true, true) => Err(Status::bad_request(
            "requested groups, extra or uid without impersonating a user: the header Impersonate-User is missing",
        )),
    }
}

fn first(headers: &HeaderMap, name: &str) -> String {
    all(headers, name).into_iter().next().unwrap_or_default()
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

/// Extra keys may hold bytes that headers may not; clients percent-encode these.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

/// Adds the groups that such a user always has.
fn completed(mut user: User) -> User {
    if let (Some((namespace, _)), true) = (split_service_account(&user.name), user.groups.is_empty()) {
        user.groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let group = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(group.to_owned());
    }
    user
}
