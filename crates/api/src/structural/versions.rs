//! From one version of a custom resource to another, where nobody but the definition says how: the fields stay, as far as
//! the other version has them.

use super::{Custom, fill, prune};
use crate::Value;
use crate::gvr::Gvk;

/// Puts an object into the version of a kind.
pub fn to_version(custom: &Custom, gvk: &Gvk, object: &mut Value) {
    object["apiVersion"] = gvk.api_version().into();
    // What has no proper metadata was never stored by an API server; it is shown as it is.
    drop(prune(&custom.node, object));
    fill(&custom.node, object);
}

/// A stored object in the version of a kind, with all its defaults; `None` when it is so already. Objects that a webhook
/// converts stay in the version they were stored in.
pub fn up_to_date(custom: &Custom, gvk: &Gvk, json: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let other = !is_of(gvk, json);
    if !custom.node.fills && !other || other && custom.webhook.is_some() {
        return Ok(None);
    }
    let stored = Value::from_json(json)?;
    let mut object = stored.clone();
    match other {
        true => to_version(custom, gvk, &mut object),
        false => fill(&custom.node, &mut object),
    }
    (object != stored).then(|| serde_json::to_vec(&object)).transpose()
}

/// Whether canonical JSON is of this version: `apiVersion` is its first key.
pub fn is_of(gvk: &Gvk, json: &[u8]) -> bool {
    let start = format!("{{\"apiVersion\":\"{}\"", gvk.api_version());
    json.starts_with(start.as_bytes())
}
