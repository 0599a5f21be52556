//! The names of users and groups that the system itself gives a meaning.

use super::User;

/// May do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";
/// Everyone who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who is not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// All nodes.
pub const NODES: &str = "system:nodes";
/// What every node's user name starts with.
pub const NODE_PREFIX: &str = "system:node:";
/// All service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What every service account's user name starts with: `system:serviceaccount:<namespace>:<name>`.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

impl User {
    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// A component of this process: its user name and groups, authenticated.
    pub fn system(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&[AUTHENTICATED]).map(|&group| group.to_owned()).collect();
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// The API server itself, which bootstraps and keeps the cluster.
    pub fn apiserver() -> Self {
        Self::system("system:apiserver", &[MASTERS])
    }

    /// A service account, as its token would name it.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [
            SERVICE_ACCOUNTS.to_owned(),
            format!("{SERVICE_ACCOUNTS}:{namespace}"),
            AUTHENTICATED.to_owned(),
        ];
        Self {
            name: service_account_user(namespace, name),
            uid: uid.to_owned(),
            groups: groups.into(),
            extra: Vec::new(),
        }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The node that this user is, if any.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty() && self.is_in(NODES))
    }
}

/// The user name of a service account.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// Namespace and name out of a service account's user name.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
