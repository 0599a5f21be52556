//! `/openapi/v2` as protobuf, in the message types of gnostic's `openapi.v2`: the only form that kubectl before 1.27
//! reads for `explain` and for checking manifests.
//!
//! - Transcoded from the JSON document, definition by definition, so that never more than one is a tree.
//! - Written are the parts that those clients read: definitions whole; of paths the operations with their extensions,
//!   ids and parameters (`dryRun` among them), without responses.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tiphys_api::Value;

/// Its media type, as servers of today write it.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// Its media type as kubectl before 1.27 asks for it.
pub const OLD_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[derive(Deserialize)]
struct Document<'a> {
    swagger: String,
    #[serde(borrow)]
    paths: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    definitions: BTreeMap<String, &'a RawValue>,
}

/// The document's bytes from its JSON.
pub fn encode(json: &str) -> Result<Vec<u8>, serde_json::Error> {
    let document: Document<'_> = serde_json::from_str(json)?;
    let mut out = Message::default();
    out.text(1, &document.swagger);
    let mut info = Message::default();
    info.text(1, "Kubernetes");
    info.text(2, tiphys_api::KUBERNETES_VERSION);
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, raw) in document.paths {
        paths.message(2, &named(&path, &path_item(&serde_json::from_str(raw.get())?)));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, raw) in document.definitions {
        definitions.message(1, &named(&name, &schema(&serde_json::from_str(raw.get())?)));
    }
    out.message(9, &definitions);
    Ok(out.0)
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    fn message(&mut self, number: u32, message: &Self) {
        self.bytes(number, &message.0);
    }

    fn flag(&mut self, number: u32, on: bool) {
        if on {
            self.varint(u64::from(number) << 3);
            self.varint(1);
        }
    }

    /// The texts of a list, one field each.
    fn texts(&mut self, number: u32, list: &Value) {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .for_each(|text| self.text(number, text));
    }

    /// Some string fields of an object, by number.
    fn fields(&mut self, object: &Value, fields: &[(u32, &str)]) {
        for (number, name) in fields {
            if let Some(text) = object.get(name).and_then(Value::as_str) {
                self.text(*number, text);
            }
        }
    }

    /// Every `x-` field of an object.
    fn extensions(&mut self, number: u32, object: &Value) {
        let fields = object.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| name.starts_with("x-")) {
            self.message(number, &named(name, &any(value)));
        }
    }
}

/// `NamedSchema`, `NamedAny`, `NamedPathItem`: all have the same two fields.
fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.text(1, name);
    out.message(2, value);
    out
}

/// `Any`: a text in YAML, which JSON is.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(2, &format!("{value}\n"));
    out
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.fields(value, &[(1, "$ref"), (2, "format"), (3, "title"), (4, "description")]);
    if let Some(default) = value.get("default") {
        out.message(5, &any(default));
    }
    out.texts(19, &value["required"]);
    value["enum"].as_array().into_iter().flatten().for_each(|one| out.message(20, &any(one)));
    if let Some(additional) = value.get("additionalProperties") {
        let mut item = Message::default();
        match additional {
            Value::Bool(on) => item.flag(2, *on),
            additional => item.message(1, &schema(additional)),
        }
        out.message(21, &item);
    }
    if let Some(ty) = value.get("type").and_then(Value::as_str) {
        let mut item = Message::default();
        item.text(1, ty);
        out.message(22, &item);
    }
    if let Some(items) = value.get("items") {
        let mut item = Message::default();
        item.message(1, &schema(items));
        out.message(23, &item);
    }
    if let Some(properties) = value.get("properties").and_then(Value::as_object) {
        let mut all = Message::default();
        properties.iter().for_each(|(name, property)| all.message(1, &named(name, &schema(property))));
        out.message(25, &all);
    }
    out.extensions(31, value);
    out
}

fn path_item(value: &Value) -> Message {
    let mut out = Message::default();
    for (number, method) in
        [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")]
    {
        if let Some(operation_value) = value.get(method) {
            out.message(number, &operation(operation_value));
        }
    }
    parameters(&mut out, 9, value);
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    out.fields(value, &[(3, "description"), (5, "operationId")]);
    out.texts(6, &value["produces"]);
    out.texts(7, &value["consumes"]);
    parameters(&mut out, 8, value);
    out.message(9, &Message::default());
    out.extensions(13, value);
    out
}

fn parameters(out: &mut Message, number: u32, owner: &Value) {
    for value in owner["parameters"].as_array().into_iter().flatten() {
        let mut parameter_ = Message::default();
        match value["in"].as_str() {
            Some("body") => parameter_.message(1, &body_parameter(value)),
            Some(place) => {
                let mut non_body = Message::default();
                non_body.message(if place == "path" { 4 } else { 3 }, &plain_parameter(value, place));
                parameter_.message(2, &non_body);
            }
            None => continue,
        }
        let mut item = Message::default();
        item.message(1, &parameter_);
        out.message(number, &item);
    }
}

fn body_parameter(value: &Value) -> Message {
    let mut out = Message::default();
    out.fields(value, &[(1, "description"), (2, "name"), (3, "in")]);
    out.flag(4, value["required"] == true);
    out.message(5, &schema(&value["schema"]));
    out
}

/// Parameters of the path and of the query differ by one field before the type.
fn plain_parameter(value: &Value, place: &str) -> Message {
    let mut out = Message::default();
    out.flag(1, value["required"] == true);
    out.fields(value, &[(2, "in"), (3, "description"), (4, "name")]);
    out.fields(value, &[(if place == "path" { 5 } else { 6 }, "type")]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references_are_where_gnostic_has_them() {
        let json = r##"{"swagger":"2.0","paths":{},"definitions":{"A":{"type":"object","properties":
            {"b":{"$ref":"#/definitions/B"}},"x-k":[1]}}}"##;
        let bytes = encode(json).unwrap();
        let b = b"\x0a\x01b\x12\x11\x0a\x0f#/definitions/B";
        assert!(bytes.windows(b.len()).any(|window| window == b));
        let extension = b"\xfa\x01\x0d\x0a\x03x-k\x12\x06\x12\x04[1]\n";
        assert!(bytes.windows(extension.len()).any(|window| window == extension));
    }
}
