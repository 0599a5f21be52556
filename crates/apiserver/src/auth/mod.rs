//! Who asks, and whether they may: the contracts of authentication and authorization.
//!
//! - Every request over HTTPS first passes one [`Authenticator`]; in-process components carry a fixed [`User`].
//! - Every request, over HTTPS or in process, passes one [`Authorizer`]; no verb and no path goes around it.

pub mod authenticate;
pub mod authorize;
pub mod groups;
pub mod impersonate;
pub mod node;
pub mod rbac;
pub mod review;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
pub mod x509;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tiphys_api::{Gvr, Object, Status};

pub use authenticate::Authentication;
pub use authorize::{Authorizers, forbidden};
pub use node::NodeAuthorizer;
pub use rbac::Rbac;
pub use token::ServiceAccountTokens;
pub use x509::PeerCertificates;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// As `system:serviceaccount:ns:name`.
    pub name: String,
    /// Identity over time, where known.
    pub uid: String,
    /// As `system:authenticated`.
    pub groups: Vec<String>,
    /// More facts, as `authentication.kubernetes.io/pod-name`.
    pub extra: Vec<(String, Vec<String>)>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case HTTP method for
    /// paths that are no resources.
    pub verb: &'a str,
    /// API group; empty for core and for paths.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural resource; empty for paths that are no resources.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Object name, or empty.
    pub name: &'a str,
    /// The whole path.
    pub path: &'a str,
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// Not by this authorizer's rules; the text says why and may be empty.
    NoOpinion(String),
}

/// Says who asks.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The user behind a request: `Ok(None)` when it carries no credentials and anonymous requests are refused (the
    /// caller answers 401), `Err` (401) when it carries wrong ones. Keep one `peer` per connection: it remembers the
    /// verified certificate.
    async fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &http::HeaderMap,
    ) -> Result<Option<User>, Status>;
}

/// Says whether a request may go on.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Decides one request.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// What the server's own parts (RBAC, admission, allocators) read: the newest cached objects, without a wait.
pub trait Lister: Send + Sync {
    /// One object.
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Object>;
    /// All objects of a namespace, or of all when it is empty.
    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Object>;
    /// A number that changes whenever an object of this resource does, so that what was derived from them can be kept
    /// until then; `None` when not known, which costs a look at all of them.
    fn version(&self, _gvr: &Gvr) -> Option<u64> {
        None
    }
    /// Waits until all that is committed by now can be read here; asked before something is refused for want of an object
    /// that its client may have made a moment ago.
    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    /// Completes when something that changed after this call can be read here.
    fn next_change(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}
