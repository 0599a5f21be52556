//! Trees in which each `metadata.managedFields[*].fieldsV1` is its JSON text instead of a tree.
//!
//! Nobody looks into these sets but the bookkeeping, which wants them as texts; as trees they would be the largest
//! part of many objects. So the write path reads bodies and stored objects folded, and unfolds when it writes bytes.

use crate::value::tree::Duplicates;
use crate::value::{self, Gap, Parts, Value, Writing};

/// Where the sets are, through lists.
pub(crate) const SETS: &[&str] = &["metadata", "managedFields", "fieldsV1"];

/// How much room an object gets that is written for the first time.
const ROOM: usize = 4096;
/// How much an object may grow by a change before its text has to move.
const GROWTH: usize = 1024;

/// A stored object, read for a change.
pub struct Before<'t> {
    json: &'t [u8],
    tree: Value,
    parts: Parts,
}

impl<'t> Before<'t> {
    /// Reads what this program has stored.
    pub fn read(json: &'t [u8]) -> Result<Self, serde_json::Error> {
        let (tree, parts) = match value::read_own(json, SETS) {
            Some(read) => read,
            None => (value::read_noting(json, SETS, &Duplicates::default())?, Parts::new()),
        };
        Ok(Self { json, tree, parts })
    }

    /// The object.
    pub fn tree(&self) -> &Value {
        &self.tree
    }

    /// The tree alone.
    pub fn into_tree(self) -> Value {
        self.tree
    }

    /// The text of a field that is the very same as before.
    fn text(&self, name: &str, value: &Value) -> Option<&[u8]> {
        let (Value::Object(new), Value::Object(old)) = (value, self.tree.get(name)?) else { return None };
        let (_, part) = self.parts.iter().find(|(other, _)| other == name).filter(|_| new.same(old))?;
        self.json.get(part.clone())
    }
}

/// Reads a stored object.
pub fn read(json: &[u8]) -> Result<Value, serde_json::Error> {
    Before::read(json).map(Before::into_tree)
}

/// Writes a folded (or plain) tree as the JSON that is stored and served. A text in place of a set that cannot be one is
/// an error.
pub fn write(tree: &Value) -> Result<Vec<u8>, serde_json::Error> {
    write_stored(tree, None).map(|(json, _)| json)
}

/// The same of an object without a revision, with the gap for that. What is shared with the version before is copied from
/// its text.
pub fn write_stored(
    tree: &Value,
    before: Option<&Before<'_>>,
) -> Result<(Vec<u8>, Option<Gap>), serde_json::Error> {
    let known = |name: &str, value: &Value| before.and_then(|before| before.text(name, value));
    let room = before.map_or(ROOM, |before| before.json.len() + GROWTH);
    value::write(tree, Writing { raw: SETS, known: &known, gap: Some(("metadata", "resourceVersion")), room })
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
        assert!(write(&json!({"metadata": {"managedFields": [{"fieldsV1": "[]"}]}})).is_err());
    }

    #[test]
    fn what_is_left_alone_is_copied_and_what_is_changed_is_written() {
        let text = r#"{"metadata":{"name":"a"},"spec":{"b":[1,{"c":"\"}"}]},"status":{}}"#;
        let before = Before::read(text.as_bytes()).unwrap();
        let mut tree = before.tree().clone();
        assert_eq!(write_stored(&tree, Some(&before)).unwrap().0, text.as_bytes());
        assert!(before.text("spec", &tree["spec"]).is_some_and(|text| text.starts_with(br#"{"b""#)));
        tree["spec"]["b"][1]["c"] = "x".into();
        tree["metadata"]["name"] = "b".into();
        let changed = r#"{"metadata":{"name":"b"},"spec":{"b":[1,{"c":"x"}]},"status":{}}"#;
        assert_eq!(write_stored(&tree, Some(&before)).unwrap().0, changed.as_bytes());
        assert_eq!(before.tree()["spec"]["b"][1]["c"], "\"}");
    }
}
