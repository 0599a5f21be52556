//! A write under review, for tests of plugins.

use tiphys_api::{Gvk, Gvr, Object, Status, Value};

use super::rounds::Rounds;
use super::{Operation, Options, Plugin, Review};
use crate::auth::User;

/// What a [`Review`] borrows.
pub(crate) struct Case {
    pub(crate) operation: Operation,
    pub(crate) gvr: Gvr,
    pub(crate) subresource: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) object: Value,
    pub(crate) old: Option<Value>,
    pub(crate) user: User,
}

impl Case {
    /// The creation of `x`, of a core resource (or `group/resource`).
    pub(crate) fn create(resource: &str, namespace: &'static str, object: Value) -> Self {
        let (group, resource) = resource.split_once('/').unwrap_or(("", resource));
        Self {
            operation: Operation::Create,
            gvr: Gvr::owned(group, "v1", resource),
            subresource: "",
            namespace,
            name: "x",
            object,
            old: None,
            user: User { name: "jane".into(), ..User::default() },
        }
    }

    pub(crate) fn operation(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }

    pub(crate) fn subresource(mut self, subresource: &'static str) -> Self {
        self.subresource = subresource;
        self
    }

    /// What a plugin makes of the object.
    pub(crate) async fn mutate(mut self, plugin: &dyn Plugin) -> Result<Value, Status> {
        self.run(plugin, true).await.map(|()| self.object)
    }

    /// What a plugin says to the object.
    pub(crate) async fn validate(mut self, plugin: &dyn Plugin) -> Result<(), Status> {
        self.run(plugin, false).await
    }

    async fn run(&mut self, plugin: &dyn Plugin, mutate: bool) -> Result<(), Status> {
        let old = self.old.as_ref().map(|value| Object::from_value(value).unwrap());
        let kind = self.object.get("kind").and_then(Value::as_str).unwrap_or("Thing").to_owned();
        let gvk = Gvk::owned(&self.gvr.group, "v1", &kind);
        let catalog = tiphys_api::schema::builtin();
        // Plugins do not ask for it; some of their cases are about kinds that the catalog does not know.
        let resource = catalog.get(&self.gvr).or_else(|| catalog.iter().next()).unwrap();
        let mut review = Review {
            operation: self.operation,
            resource,
            gvr: &self.gvr,
            gvk: &gvk,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            object: &mut self.object,
            old: old.as_ref(),
            user: &self.user,
            dry_run: false,
            options: Options::None,
            rounds: Rounds::default(),
        };
        if mutate { plugin.mutate(&mut review).await } else { plugin.validate(&review).await }
    }
}
