//! Strategic merge patches of built-in kinds: each block of `golden.txt` is an object, a patch, and the result.
//! `REWRITE=1` writes the present results into the file; review what changed.

use crate::Value;

use super::strategic;
use crate::gvr::Gvk;
use crate::schema::builtin;

const GOLDEN: &str = include_str!("golden.txt");

fn result(object: &str, patch: &str) -> Value {
    let mut object: Value = serde_saphyr::from_str(object).expect(object);
    let patch: Value = serde_saphyr::from_str(patch).expect(patch);
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let resource = builtin().by_kind(&Gvk::from_api_version(text("apiVersion"), text("kind"))).unwrap();
    strategic(&resource.schema, resource.object, &mut object, &patch).unwrap();
    let fields = object.as_object_mut().unwrap();
    fields.remove("apiVersion");
    fields.remove("kind");
    object
}

#[test]
fn patches_of_built_in_kinds_do_what_they_do_in_kubernetes() {
    let mut blessed = Vec::new();
    let mut wrong = Vec::new();
    for block in GOLDEN.split("\n\n") {
        let (input, expected) = block.split_once("=>").expect("a block has =>");
        let (object, patch) = input.split_once("patch\n").expect("a block has a patch");
        let actual = result(object, patch);
        if serde_json::from_str::<Value>(expected.trim()).ok().as_ref() != Some(&actual) {
            wrong.push(format!("{input}expected {expected}\nactual   {actual}"));
        }
        blessed.push(format!("{input}=> {actual}"));
    }
    if std::env::var_os("REWRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/patch/golden.txt");
        std::fs::write(path, blessed.join("\n\n") + "\n").unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
