//! Acting as someone else: the `Impersonate-*` headers, allowed to those who hold the verb `impersonate`.
//!
//! Each claimed part (user, service account, every group, uid, every extra value) is authorized by itself before the
//! request goes on as that user.

use http::HeaderMap;
use tiphys_api::Status;

use super::query::decode;
use super::refuse;
use crate::auth::{Attributes, Authorizer, Decision, User};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Who the request claims to be, if it claims; 400 when groups, uid or extra come without a user.
pub fn claimed(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let name = texts(headers, USER).next().unwrap_or_default();
    let groups: Vec<String> = texts(headers, GROUP).collect();
    let uid = texts(headers, UID).next().unwrap_or_default();
    let extra = extra(headers);
    if name.is_empty() {
        let nothing = groups.is_empty() && uid.is_empty() && extra.is_empty();
        let why = "requested impersonation without impersonating a user";
        return if nothing { Ok(None) } else { Err(Status::bad_request(why)) };
    }
    Ok(Some(complete(User { name, uid, groups, extra })))
}

fn texts<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn extra(headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
    let mut extra = Vec::new();
    for name in headers.keys().filter_map(|name| name.as_str().strip_prefix(EXTRA)) {
        let values = texts(headers, &format!("{EXTRA}{name}")).collect();
        extra.push((decode(name, false).unwrap_or_else(|| name.to_owned()), values));
    }
    extra
}

/// Adds the groups that authentication would have given.
fn complete(mut user: User) -> User {
    let anonymous = user.name == "system:anonymous";
    if let (Some((namespace, _)), true) = (service_account(&user.name), user.groups.is_empty()) {
        user.groups
            .extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    }
    let all = if anonymous { "system:unauthenticated" } else { "system:authenticated" };
    let has = |group: &str| user.groups.iter().any(|g| g == group);
    if !has("system:authenticated") && !has("system:unauthenticated") {
        user.groups.push(all.to_owned());
    }
    user
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// One thing that must be allowed: resource, subresource, namespace, name, group.
type Claim<'a> = (&'static str, &'a str, &'a str, &'a str, &'static str);

/// Checks that `who` may be everything that `claimed` says; `asked` are the groups named in the headers.
pub async fn authorize(
    authorizer: &dyn Authorizer,
    who: &User,
    claimed: &User,
    headers: &HeaderMap,
) -> Result<(), Status> {
    let groups: Vec<String> = texts(headers, GROUP).collect();
    for claim in claims(claimed, &groups) {
        let (resource, subresource, namespace, name, group) = claim;
        let (verb, version) = ("impersonate", "v1");
        let attributes =
            Attributes { user: who, verb, group, version, resource, subresource, namespace, name, path: "" };
        if let Decision::NoOpinion(why) = authorizer.authorize(&attributes).await {
            return Err(refuse::forbidden(&attributes, &why));
        }
    }
    Ok(())
}

fn claims<'a>(claimed: &'a User, groups: &'a [String]) -> Vec<Claim<'a>> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let mut claims = vec![match service_account(&claimed.name) {
        Some((namespace, name)) => ("serviceaccounts", "", namespace, name, ""),
        None => ("users", "", "", claimed.name.as_str(), ""),
    }];
    claims.extend(groups.iter().map(|group| ("groups", "", "", group.as_str(), "")));
    if !claimed.uid.is_empty() {
        claims.push(("uids", "", "", &claimed.uid, AUTHENTICATION));
    }
    for (key, values) in &claimed.extra {
        claims.extend(
            values.iter().map(|value| ("userextras", key.as_str(), "", value.as_str(), AUTHENTICATION)),
        );
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_claim_is_completed_with_its_groups() {
        let user = claimed(&headers(&[(USER, "system:serviceaccount:ns:sa")])).unwrap().unwrap();
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        let user = claimed(&headers(&[(USER, "jane"), (GROUP, "dev"), ("impersonate-extra-a%2fb", "c")]));
        let user = user.unwrap().unwrap();
        assert_eq!((user.groups.len(), user.extra), (2, vec![("a/b".to_owned(), vec!["c".to_owned()])]));
    }

    #[test]
    fn groups_alone_are_refused() {
        assert_eq!(claimed(&headers(&[(GROUP, "system:masters")])).unwrap_err().code, 400);
        assert_eq!(claimed(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn every_part_is_authorized_by_itself() {
        let user = User {
            name: "u".into(),
            uid: "1".into(),
            extra: vec![("k".into(), vec!["v".into()])],
            ..User::default()
        };
        let groups = ["a".to_owned(), "b".to_owned()];
        let named: Vec<_> = claims(&user, &groups).iter().map(|c| (c.0, c.3.to_owned())).collect();
        let expected = [("users", "u"), ("groups", "a"), ("groups", "b"), ("uids", "1"), ("userextras", "v")];
        assert_eq!(named, expected.map(|(r, n)| (r, n.to_owned())));
    }
}
