//! From a request's body to a tree that the write path can trust: parsed, of the right kind, pruned and typed.

use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Status, Value, cbor, decode, protobuf};

use super::request::{Body, FieldValidation, Request};
use super::tree;

/// A decoded body and what `fieldValidation=Warn` tells about it.
#[derive(Debug)]
pub struct Decoded {
    /// The tree, in the request's version.
    pub tree: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Decodes a body that must be an object of the resource. `into` is the kind that is wanted: the resource's own, or
/// that of a subresource's body.
pub fn object(resource: &Resource, body: Body, validation: FieldValidation) -> Result<Decoded, Status> {
    // What was read by the kind's own messages fits it. Custom resources have none, but may be called as a kind that has.
    let fits =
        resource.custom.is_none() && matches!(&body, Body::Protobuf(bytes) if protobuf::is_message(bytes));
    let (mut tree, duplicates) = parse(body)?;
    name_kind(&resource.gvk, &mut tree)?;
    let warnings = if fits { Vec::new() } else { check(resource, &mut tree, duplicates, validation)? };
    Ok(Decoded { tree, warnings })
}

/// Decodes a body whose kind has no resource of its own (`Binding`, `Eviction`, `Scale` …). Its kind is checked, its
/// fields are read by who asked.
pub fn loose(wanted: &Gvk, body: Body) -> Result<Value, Status> {
    let (mut tree, _) = parse(body)?;
    name_kind(wanted, &mut tree)?;
    Ok(tree)
}

/// Decodes an applied configuration. What is not in the schema is an error: nobody could own it.
pub fn applied(request: &Request<'_>, body: Body, validation: FieldValidation) -> Result<Value, Status> {
    let resource = request.resource;
    let (mut tree, duplicates) = parse(body)?;
    // Ownership is kept by version: a configuration says its own.
    let (version, expected) = (tree::text(&tree, &["apiVersion"]), resource.gvk.api_version());
    if tree.is_object() && version != expected {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {expected}"
        )));
    }
    if tree.is_object() {
        name_kind(&resource.gvk, &mut tree)?;
    }
    let named = tree::text(&tree, &["metadata", "name"]);
    if !named.is_empty() && named != request.name {
        return Err(wrong_name(named, request.name));
    }
    check(resource, &mut tree, duplicates, validation).and_then(|unknown| match unknown.first() {
        None => Ok(tree),
        Some(text) => {
            let path = text.split('"').nth(1).unwrap_or_default();
            Err(Status::failure(
                500,
                "",
                format!(
                    "failed to create typed patch object ({}; {}/{}, Kind={}): .{path}: field not declared in schema",
                    place(request),
                    resource.gvk.group,
                    resource.gvk.version,
                    resource.gvk.kind
                ),
            ))
        }
    })
}

fn place(request: &Request<'_>) -> String {
    match request.namespace {
        "" => request.name.to_owned(),
        namespace => format!("{namespace}/{}", request.name),
    }
}

/// 400 for a body about another object than the path.
pub fn wrong_name(given: &str, wanted: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({wanted})"
    ))
}

/// Checks and prunes a tree, which a body held. Returns warnings.
pub fn check(
    resource: &Resource,
    tree: &mut Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    fit(resource, tree, None, duplicates, validation).map_err(|cause| decode::refusal(&resource.gvk, &cause))
}

/// The same for a tree that a patch made of the `old` one; the bare cause when it does not fit its kind.
pub fn fit(
    resource: &Resource,
    tree: &mut Value,
    old: Option<&Value>,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, String> {
    let mut found = decode::changed(resource, tree, old).map_err(|e| e.to_string())?;
    found.extend(duplicates);
    match (validation, found.is_empty()) {
        (_, true) | (FieldValidation::Ignore, _) => Ok(Vec::new()),
        (FieldValidation::Warn, _) => Ok(found),
        (FieldValidation::Strict, _) => Err(decode::strict(&found)),
    }
}

/// Parses a body into a tree, and tells the fields that stand in it twice.
pub fn parse(body: Body) -> Result<(Value, Vec<String>), Status> {
    let refuse = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
    let parsed = match body {
        Body::Json(text) => decode::json(&text),
        Body::Yaml(text) => decode::yaml(&text),
        Body::Protobuf(bytes) => {
            return protobuf::open(&bytes).map(|tree| (tree, Vec::new())).map_err(|e| refuse(&e));
        }
        Body::Cbor(bytes) => {
            return cbor::decode(&bytes).map(|tree| (tree, Vec::new())).map_err(|e| refuse(&e));
        }
    };
    let parsed = parsed.map_err(|e| refuse(&e))?;
    Ok((parsed.value, parsed.duplicates))
}

/// Fills in a missing `apiVersion` and `kind`, and refuses others than the wanted ones.
fn name_kind(wanted: &Gvk, tree: &mut Value) -> Result<(), Status> {
    let Value::Object(map) = tree else {
        let text: String = tree.to_string().chars().take(30).collect();
        let why = "json: cannot unmarshal non-object into Go value";
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({text})",
            wanted.kind
        )));
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let wanted_version = wanted.api_version();
    if !kind.is_empty() && kind != wanted.kind {
        let given = Gvk::from_api_version(&api_version, &kind);
        let why =
            format!("converting ({}.{kind}) to (core.{}): unknown conversion", given.version, wanted.kind);
        return Err(Status::bad_request(handled_as(&given, wanted, &why)));
    }
    if !api_version.is_empty() && api_version != wanted_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({wanted_version})"
        )));
    }
    map.insert("apiVersion".into(), wanted_version.into());
    map.insert("kind".into(), wanted.kind.as_ref().into());
    Ok(())
}

fn handled_as(given: &Gvk, wanted: &Gvk, why: &str) -> String {
    format!("{} in version {:?} cannot be handled as a {}: {why}", given.kind, given.version, wanted.kind)
}

#[cfg(test)]
mod tests {
    use tiphys_api::{json, structural};

    use super::*;

    #[test]
    fn a_custom_resource_called_as_a_type_of_protobuf_is_pruned_all_the_same() {
        let schema = json!({"type": "object", "properties": {"known": {"type": "string"}}});
        let names = json!({"plural": "labelselectors", "kind": "LabelSelector"});
        let version = json!({"name": "v1", "served": true, "schema": {"openAPIV3Schema": schema}});
        let definition = json!({"spec": {"group": "example.com", "names": names, "versions": [version]}});
        let versions = structural::versions(&definition, &|_| Default::default());
        let tree =
            json!({"apiVersion": "example.com/v1", "kind": "LabelSelector", "matchLabels": {"a": "b"}});
        let body = Body::Protobuf(protobuf::encode(&tree).unwrap().into());
        let decoded = object(&versions[0].resource, body, FieldValidation::Warn).unwrap();
        assert_eq!(decoded.tree.get("matchLabels"), None);
        assert_eq!(decoded.warnings, ["unknown field \"matchLabels\""]);
    }
}
