//! Role-based access control: what roles and bindings say, decided from memory in about a microsecond.
//!
//! - Rules only ever allow; nothing denies.
//! - [`index`] keeps the way from a subject to its rules, and is renewed when a role or binding changes.
//! - [`covers`] answers whether somebody may hand out rules: only what they hold themselves.

pub mod covers;
mod index;
pub mod rule;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use tiphys_api::Gvr;

use self::index::{Grant, Index};
pub use self::rule::Rule;
use super::{Attributes, Authorizer, Decision, Lister, User};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Roles for the whole cluster.
pub const CLUSTER_ROLES: Gvr = Gvr::new(GROUP, "v1", "clusterroles");
/// Roles within a namespace.
pub const ROLES: Gvr = Gvr::new(GROUP, "v1", "roles");
/// Who has which ClusterRole everywhere.
pub const CLUSTER_ROLE_BINDINGS: Gvr = Gvr::new(GROUP, "v1", "clusterrolebindings");
/// Who has which role in a namespace.
pub const ROLE_BINDINGS: Gvr = Gvr::new(GROUP, "v1", "rolebindings");

/// The RBAC authorizer.
pub struct Rbac {
    lister: Arc<dyn Lister>,
    index: ArcSwap<Index>,
    building: Mutex<()>,
}

impl Rbac {
    /// Reads roles and bindings from `lister`, now and whenever they change.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister, index: ArcSwap::default(), building: Mutex::new(()) }
    }

    fn index(&self) -> Arc<Index> {
        let index = self.index.load_full();
        if index.is_current(self.lister.as_ref()) {
            return index;
        }
        let _one_builds = self.building.lock();
        let index = self.index.load_full();
        if index.is_current(self.lister.as_ref()) {
            return index;
        }
        let fresh = Arc::new(Index::build(self.lister.as_ref(), &index));
        self.index.store(fresh.clone());
        fresh
    }

    /// Decides one request by the present roles.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let index = self.index();
        let mut lost = Vec::new();
        for grant in index.grants(attributes.user, attributes.namespace) {
            match &grant.rules {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => return Decision::Allow,
                Some(_) => {}
                None => lost.push(not_found(grant)),
            }
        }
        match lost.as_slice() {
            [] => Decision::NoOpinion(String::new()),
            [one] => Decision::NoOpinion(format!("RBAC: {one}")),
            many => Decision::NoOpinion(format!("RBAC: [{}]", many.join(", "))),
        }
    }

    /// All rules a user has in a namespace (empty: in the whole cluster), and the roles that bindings name in vain.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let index = self.index();
        let (mut rules, mut lost) = (Vec::new(), Vec::new());
        for grant in index.grants(user, namespace) {
            match &grant.rules {
                Some(given) => rules.extend(given.iter().cloned()),
                None => lost.push(not_found(grant)),
            }
        }
        (rules, lost)
    }

    /// The rules of a role (namespace empty: of a ClusterRole); `None` when there is none.
    pub fn rules_of(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.index().rules_of(namespace, name)
    }
}

fn not_found(grant: &Grant) -> String {
    format!("{} not found", grant.role)
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.decide(attributes)
    }
}
