//! Names that the api crate will bring; each line here goes when its owner lands.

use tiphys_api::schema::Resource;
use tiphys_api::{Value, field};

pub fn default(_resource: &Resource, _tree: &mut Value) {}
pub fn required(_resource: &Resource, _tree: &Value) -> field::Errors {
    Vec::new()
}
pub fn between(_from: &Resource, to: &Resource, tree: &mut Value) -> Result<(), String> {
    tree["apiVersion"] = to.gvk.api_version().into();
    Ok(())
}
