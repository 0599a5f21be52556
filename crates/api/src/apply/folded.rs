//! Trees in which each `metadata.managedFields[*].fieldsV1` is its JSON text instead of a tree.
//!
//! Nobody looks into these sets but the bookkeeping, which wants them as texts; as trees they would be the largest
//! part of many objects. So the write path reads bodies and stored objects folded, and unfolds when it writes bytes.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::decode;

/// The field of an entry that is folded.
pub(crate) const FIELDS: &str = "fieldsV1";

/// Reads a stored object.
pub fn read(json: &[u8]) -> Result<Value, serde_json::Error> {
    decode::folded(json)
}

/// Writes a folded (or plain) tree as the JSON that is stored and served. A text that is no JSON is an error.
pub fn write(tree: &Value) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(4096);
    let mut out = serde_json::Serializer::new(&mut bytes);
    Level { value: tree, path: &["metadata", "managedFields", FIELDS] }.serialize(&mut out)?;
    Ok(bytes)
}

/// A value and the keys that lead from it to the folded texts; lists on the way are gone through.
struct Level<'v> {
    value: &'v Value,
    path: &'static [&'static str],
}

impl Serialize for Level<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match (self.value, self.path) {
            (Value::String(text), []) => raw(text)?.serialize(out),
            (value, []) => value.serialize(out),
            (Value::Array(items), path) => out.collect_seq(items.iter().map(|value| Level { value, path })),
            (Value::Object(fields), [wanted, below @ ..]) => {
                let mut map = out.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    match key == wanted {
                        true => map.serialize_entry(key, &Level { value, path: below })?,
                        false => map.serialize_entry(key, value)?,
                    }
                }
                map.end()
            }
            (plain, _) => plain.serialize(out),
        }
    }
}

fn raw<E: serde::ser::Error>(text: &str) -> Result<&RawValue, E> {
    serde_json::from_str(text).map_err(E::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_folded_is_written_plain() {
        let plain = json!({"kind": "Pod", "metadata": {"managedFields": [
            {"fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}, "manager": "m"}, {"manager": "n"}],
            "name": "fieldsV1"}, "spec": {"managedFields": [{"fieldsV1": {}}]}});
        let text = plain.to_string();
        let folded = read(text.as_bytes()).unwrap();
        let set = &folded["metadata"]["managedFields"][0]["fieldsV1"];
        assert_eq!(set, r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#);
        assert_eq!(folded["spec"], plain["spec"]);
        assert_eq!(write(&folded).unwrap(), text.as_bytes());
        assert_eq!(write(&plain).unwrap(), text.as_bytes());
        assert!(write(&json!({"metadata": {"managedFields": [{"fieldsV1": "{"}]}})).is_err());
    }
}
