//! A configuration laid over an object with nobody's ownership looked at: what mutating admission policies do.
//!
//! - What it names becomes so, the rest stays; lists are merged by their keys, as in server-side apply.
//! - What can only be replaced as a whole may not be named: who wants to set one entry of such a list would lose the others
//!   without noticing.

use super::merge;
use super::shape::{Form, Shape};
use crate::Value;
use crate::decode;
use crate::schema::Resource;

/// Lays a configuration over an object of a resource; on an error the object is as it was.
pub fn overlay(resource: &Resource, object: &mut Value, mut config: Value) -> Result<(), String> {
    let untyped = |why: String| format!("failed to convert patch object to typed object: {why}");
    let unknown = decode::structure(resource, &mut config).map_err(|error| untyped(error.to_string()))?;
    if let Some(text) = unknown.first() {
        let path = text.split('"').nth(1).unwrap_or_default();
        return Err(untyped(format!(".{path}: field not declared in schema")));
    }
    let shape = Shape::Struct(&resource.schema, resource.root());
    if let Some(why) = merge::duplicate(shape, &config) {
        return Err(untyped(why));
    }
    let mut atomic = Vec::new();
    atomics(shape, &config, String::new(), &mut atomic);
    if !atomic.is_empty() {
        let places = atomic.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}"
        ));
    }
    merge::merge(shape, object, &config);
    Ok(())
}

/// The places in a configuration that are replaced as a whole.
fn atomics(shape: Shape<'_>, config: &Value, at: String, found: &mut Vec<String>) {
    let whole = config.is_object() || config.is_array();
    match (shape, config) {
        (Shape::Struct(..), Value::Object(fields)) => {
            for (name, value) in fields.iter().filter(|(name, _)| shape.look(name).named) {
                atomics(shape.child(name), value, format!("{at}.{name}"), found);
            }
        }
        (Shape::Map(..) | Shape::Deduced, Value::Object(_)) => {}
        (Shape::List(..), Value::Array(items)) => {
            let Form::List(of) = shape.resolve(None, Some(config)) else { return };
            for (index, item) in items.iter().enumerate() {
                atomics(of.shape(), item, format!("{at}[{index}]"), found);
            }
        }
        _ if whole => found.push(at),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;
    use crate::{Gvr, json};

    fn laid(spec: Value, config: Value) -> Result<Value, String> {
        let pods = builtin().get(&Gvr::new("", "v1", "pods")).unwrap();
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}});
        pod["spec"] = spec;
        overlay(pods, &mut pod, config).map(|()| pod)
    }

    #[test]
    fn what_is_named_becomes_so_and_the_rest_stays() {
        let spec = json!({"containers": [{"name": "a", "image": "i"}], "nodeName": "n"});
        let config = json!({"metadata": {"labels": {"c": "d"}}, "spec": {"hostNetwork": true, "containers": [
            {"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "j"}]}});
        let pod = laid(spec, config).unwrap();
        assert_eq!(pod["metadata"]["labels"], json!({"a": "b", "c": "d"}));
        assert_eq!(pod["spec"]["nodeName"], "n");
        assert_eq!(pod["spec"]["hostNetwork"], true);
        let containers = json!([{"name": "a", "image": "i", "env": [{"name": "X", "value": "1"}]},
                                {"name": "b", "image": "j"}]);
        assert_eq!(pod["spec"]["containers"], containers);
    }

    #[test]
    fn what_is_replaced_as_a_whole_may_not_be_named() {
        let config = json!({"spec": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}],
            "containers": [{"name": "a", "args": ["x"]}], "volumes": []}});
        let why = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: ";
        let places = ".spec.containers[0].args, .spec.nodeSelector, .spec.tolerations";
        assert_eq!(laid(json!({}), config).unwrap_err(), format!("{why}{places}"));
    }

    #[test]
    fn what_is_not_of_the_kind_is_refused() {
        let why = |config| laid(json!({}), config).unwrap_err();
        let untyped = "failed to convert patch object to typed object: ";
        assert_eq!(why(json!({"spec": {"x": 1}})), format!("{untyped}.spec.x: field not declared in schema"));
        assert!(why(json!({"spec": 1})).starts_with(untyped));
        let twice = json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}});
        assert!(why(twice).contains("duplicate entries for key"));
    }
}
