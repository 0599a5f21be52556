//! Names of kinds and resources: group, version, and the kind or its plural.
//!
//! Built-in names are constants that borrow; names found by discovery own their text. Both compare alike.

use std::borrow::Cow;
use std::fmt;

type Text = Cow<'static, str>;

/// A resource as requests name it: `apps/v1 deployments`. The core group is `""`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    /// API group; empty for the core group.
    pub group: Text,
    /// Version within the group, as `v1`.
    pub version: Text,
    /// Plural lower-case name, as `deployments`.
    pub resource: Text,
}

/// A kind as objects name it: `apps/v1 Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: Text,
    /// Version within the group, as `v1`.
    pub version: Text,
    /// Kind, as `Deployment`.
    pub kind: Text,
}

impl Gvr {
    /// A built-in resource, usable in constants.
    pub const fn new(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// A resource whose names were read at run time.
    pub fn owned(group: &str, version: &str, resource: &str) -> Self {
        Self {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            resource: resource.to_owned().into(),
        }
    }

    /// `v1` or `apps/v1`: the text of `apiVersion`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `/api/v1` or `/apis/apps/v1`: where the group-version is served.
    pub fn base_path(&self) -> String {
        match self.group.as_ref() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// `pods` or `deployments.apps`: how messages name a resource.
    pub fn group_resource(&self) -> String {
        qualified(&self.resource, &self.group)
    }
}

impl Gvk {
    /// A built-in kind, usable in constants.
    pub const fn new(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), kind: Cow::Borrowed(kind) }
    }

    /// A kind whose names were read at run time.
    pub fn owned(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: kind.to_owned().into(),
        }
    }

    /// Reads `apiVersion` and `kind` as objects carry them.
    pub fn from_api_version(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self::owned(group, version, kind)
    }

    /// `v1` or `apps/v1`: the text of `apiVersion`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `Pod` or `Deployment.apps`: how messages name a kind.
    pub fn group_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }
}

fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    }
}

fn qualified(name: &str, group: &str) -> String {
    match group {
        "" => name.to_owned(),
        _ => format!("{name}.{group}"),
    }
}

impl fmt::Display for Gvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version(), self.resource)
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}
