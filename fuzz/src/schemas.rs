//! Schemas of custom resources. An input is two lines of JSON: a schema, and an object that is to keep to it.

use tiphys_api::field::Path;
use tiphys_api::structural::{self, Node, shape};

use crate::changes::object_and_patch;

/// What is dropped and filled in is so once and for all, and an object that did not change breaks no rule.
pub fn schema(data: &[u8]) {
    let Some((schema, mut object)) = object_and_patch(data) else { return };
    let structural = structural::judge(&Path::new("schema"), &schema).is_empty();
    let node = Node::compile(&schema);
    let (arena, root) = shape::of(&node, "com.example.v1.Fuzzed");
    assert!(!arena.get(root).fields.is_empty());
    if !object.is_object() || structural::prune(&node, &mut object).is_err() {
        return;
    }
    structural::fill(&node, &mut object);
    let once = object.clone();
    assert_eq!(structural::prune(&node, &mut object).map(|unknown| unknown.len()), Ok(0));
    structural::fill(&node, &mut object);
    if structural {
        assert_eq!(object, once);
    }
    let _ = structural::check(&node, &object, None);
    assert!(structural::check(&node, &object, Some(&object)).is_empty());
}
