//! Trees in which each `metadata.managedFields[*].fieldsV1` is its JSON text instead of a tree.
//!
//! Nobody looks into these sets but the bookkeeping, which wants them as texts; as trees they would be the largest
//! part of many objects. So the write path reads bodies and stored objects folded, and unfolds when it writes bytes.

use crate::value::tree::Duplicates;
use crate::value::{self, Value};

/// Where the sets are, through lists.
pub(crate) const SETS: &[&str] = &["metadata", "managedFields", "fieldsV1"];

/// Reads a stored object.
pub fn read(json: &[u8]) -> Result<Value, serde_json::Error> {
    value::read_noting(json, SETS, &Duplicates::default())
}

/// Writes a folded (or plain) tree as the JSON that is stored and served. A text that is no JSON is an error.
pub fn write(tree: &Value) -> Result<Vec<u8>, serde_json::Error> {
    value::write(tree, SETS)
}

#[cfg(test)]
mod tests {
    use crate::json;

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
