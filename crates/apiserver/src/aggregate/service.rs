//! What an APIService says: which group-version, and who answers it.

use serde::Deserialize;
use tiphys_api::Gvr;

/// The resource of APIServices.
pub const API_SERVICES: Gvr = Gvr::new("apiregistration.k8s.io", "v1", "apiservices");
/// What has another port in mind says so.
const PORT: u16 = 443;

/// The fields of an APIService that decide.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ApiService {
    /// `spec`
    pub spec: Spec,
    /// `status`
    pub status: Status,
}

/// Of an APIService's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Who answers; `None` for this server.
    pub service: Option<Reference>,
    /// PEM of the CAs that may sign the server's certificate, in base64; empty for the system's.
    pub ca_bundle: String,
    /// Whether any certificate will do.
    #[serde(rename = "insecureSkipTLSVerify")]
    pub insecure: bool,
    /// Place of the group in discovery: the highest of its versions counts.
    pub group_priority_minimum: i64,
    /// Place of the version in its group.
    pub version_priority: i64,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: Option<u16>,
}

/// Of an APIService's `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `Available` among them.
    pub conditions: Vec<Condition>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Available`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for the cause.
    pub reason: String,
    /// What people read.
    pub message: String,
    /// Since when it has this status.
    pub last_transition_time: String,
}

impl Reference {
    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(PORT)
    }
}

impl ApiService {
    /// The condition `Available`, where it was ever judged.
    pub fn availability(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == "Available")
    }

    /// Whether requests are passed on.
    pub fn is_available(&self) -> bool {
        self.availability().is_some_and(|condition| condition.status == "True")
    }
}
