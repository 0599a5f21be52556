//! CEL: whatever is written, and whatever it does to an object.

use std::sync::LazyLock;

use tiphys_api::{Value as Tree, json};
use tiphys_cel::value::{from_tree, to_tree};
use tiphys_cel::{Budget, Env, Program, Type, types};

/// Small, so that an input that costs much is over soon.
const BUDGET: u64 = 20_000;

static SCHEMA: LazyLock<Tree> = LazyLock::new(|| {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "ports": {"type": "array", "maxItems": 4, "items": {"type": "object", "properties": {
            "name": {"type": "string"}, "number": {"type": "integer"}}}},
        "limits": {"type": "object", "additionalProperties": {"type": "string"}},
        "at": {"type": "string", "format": "date-time"}, "size": {"x-kubernetes-int-or-string": true}}}}})
});

static OBJECT: LazyLock<Tree> = LazyLock::new(|| {
    json!({"metadata": {"name": "n"}, "spec": {"tags": ["a", "b"], "limits": {"cpu": "1"}, "size": "5%",
        "ports": [{"name": "http", "number": 80}], "at": "2024-01-01T00:00:00Z"}})
});

/// What compiles has a value or an error, for no more than its budget, and the same ones each time.
pub fn cel(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(object) = types::openapi::decl(&SCHEMA, true) else { return };
    let patch =
        Type::object("JSONPatch", [("op".into(), Type::String.into()), ("value".into(), Type::Dyn.into())]);
    let env = Env::new().with("o", object.clone()).with("d", Type::Dyn);
    let env = env.with_open_structures("Object").with_structure("JSONPatch", patch);
    let Ok(program) = Program::compile(text, &env).map_err(|error| error.to_string()) else { return };
    let _ = program.estimate(&env);
    let (Ok(typed), Ok(untyped)) = (from_tree(&OBJECT, &object.ty), from_tree(&OBJECT, &Type::Dyn)) else {
        return;
    };
    let bindings = [("o", typed), ("d", untyped)];
    let run = || {
        let budget = Budget::new(BUDGET);
        let value = program.evaluate(&bindings, &budget);
        let tree = value.as_ref().map(|value| to_tree(value, &budget));
        assert!(!matches!(tree, Ok(Ok(_))) || budget.spent() <= BUDGET, "{text}");
        (value.map(|value| format!("{value:?}")), budget.spent())
    };
    assert_eq!(run(), run(), "{text}");
}
