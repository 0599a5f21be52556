//! The versions that one kind's objects are served in: a webhook may know another than the request's.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::schema::Resource;
use tiphys_api::{Status, Value};

use crate::kinds::Kinds;
use crate::registry::Converter;

/// Knows versions, and what an object looks like in another.
#[async_trait]
pub trait Versions: Send + Sync {
    /// The resources that serve the same objects, the given one among them.
    fn of(&self, resource: &Arc<Resource>) -> Vec<Arc<Resource>>;

    /// Rewrites an object of one of them as another serves it.
    async fn convert(
        &self,
        from: &Arc<Resource>,
        to: &Arc<Resource>,
        object: &mut Value,
    ) -> Result<(), Status>;
}

/// All kinds of a server, and who converts their objects.
pub struct Convertible {
    /// The kinds.
    pub kinds: Arc<Kinds>,
    /// Asks the webhooks of custom resources.
    pub converter: Converter,
}

#[async_trait]
impl Versions for Convertible {
    fn of(&self, resource: &Arc<Resource>) -> Vec<Arc<Resource>> {
        self.kinds.versions_of(resource)
    }

    async fn convert(
        &self,
        from: &Arc<Resource>,
        to: &Arc<Resource>,
        object: &mut Value,
    ) -> Result<(), Status> {
        *object = self.converter.tree(from, to, object.take()).await?;
        Ok(())
    }
}
