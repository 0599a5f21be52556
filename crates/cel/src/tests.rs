//! The tables in `testdata`: an expression a line, with its type and value, or what is wrong with it. With
//! `REWRITE=1` in the environment the answers are written anew; review the difference.

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use tiphys_api::json;
use tiphys_api::schema::builtin;
use tiphys_api::{Gvk, Value as Tree};

use super::*;
use crate::lib::convert::shown;
use crate::value::from_tree;

fn schema() -> Tree {
    let text = json!({"type": "string"});
    json!({"type": "object", "properties": {
    "spec": {"type": "object", "properties": {
        "replicas": {"type": "integer"},
        "name": {"type": "string", "maxLength": 20},
        "unset": text,
        "namespace": text,
        "x-y": text,
        "a.b": text,
        "ratio": {"type": "number"},
        "at": {"type": "string", "format": "date-time"},
        "every": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte"},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "nullable": {"type": "object", "nullable": true},
        "port": {"x-kubernetes-int-or-string": true},
        "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10},
            "x-kubernetes-list-type": "set"},
        "ports": {"type": "array", "maxItems": 10, "items": {"type": "object", "properties": {
            "name": text, "number": {"type": "integer"}}},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        "limits": {"type": "object", "maxProperties": 4, "additionalProperties": text},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true},
    }}}})
}

fn object() -> Tree {
    json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "namespace": "ns"}, "spec": {
        "replicas": 3, "name": "web", "ratio": 1, "at": "2024-01-01T00:00:00Z", "every": "90s", "data": "aGk=",
        "namespace": "here", "x-y": "dash", "a.b": "dot", "any": {"x": [1, "a"]}, "nullable": null, "port": 80,
        "tags": ["a", "b"], "ports": [{"name": "http", "number": 80}, {"name": "dns", "number": 53}],
        "limits": {"cpu": "1", "memory": "2Gi"},
        "template": {"kind": "Pod", "metadata": {"name": "t"}}}})
}

fn pod() -> Tree {
    json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"containers": [
        {"name": "a", "image": "i", "resources": {"limits": {"cpu": "500m"}}}]}})
}

fn env() -> Env {
    let pod = builtin().by_kind(&Gvk::from_api_version("v1", "Pod")).unwrap();
    Env::new()
        .with("o", types::openapi::decl(&schema(), true).unwrap())
        .with("d", Type::Dyn)
        .with_open_structures("Object")
        .with_structure(
            "JSONPatch",
            Type::object(
                "JSONPatch",
                [("op".into(), Type::String.into()), ("value".into(), Type::Dyn.into())],
            ),
        )
        .with("p", types::builtin::object(pod))
}

/// A value with its parts.
fn full(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => format!("{:?}", &**text),
        Value::Uint(number) => format!("{number}u"),
        Value::Bytes(bytes) => format!("b{bytes:?}"),
        Value::List(list) => {
            let items: Vec<_> =
                list.iter().map(|item| item.map_or_else(|e| e.to_string(), |i| full(&i))).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entry = |(key, value): (Value<'_>, value::Result<'_>)| {
                format!("{}: {}", full(&key), value.map_or_else(|e| e.to_string(), |v| full(&v)))
            };
            let entries: Vec<_> = map.entries().into_iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(Some(inner)) => format!("some {}", full(inner)),
        Value::Optional(None) => "none".into(),
        other => shown(other),
    }
}

fn evaluated(program: &Program, budget: &Budget) -> Result<String, EvalError> {
    let (object, pod, env) = (object(), pod(), env());
    let bound = |name: &str, tree| from_tree(tree, &env.variable(name).unwrap().ty).unwrap();
    let bindings = [("o", bound("o", &object)), ("d", bound("d", &object)), ("p", bound("p", &pod))];
    program.evaluate(&bindings, budget).map(|value| full(&value))
}

fn answer(text: &str) -> String {
    let program = match Program::compile(text, &env()) {
        Ok(program) => program,
        Err(error) => {
            let issues: Vec<_> =
                error.issues.iter().map(|issue| format!("{}: {}", issue.at, issue.message)).collect();
            return format!("refused at {}", issues.join("; "));
        }
    };
    match evaluated(&program, &Budget::new(cost::PER_CALL)) {
        Ok(value) => format!("{}: {value}", program.result()),
        Err(error) => format!("{}: error: {error}", program.result()),
    }
}

fn costs(text: &str) -> String {
    let env = env();
    let Ok(program) = Program::compile(text, &env) else { return "refused".into() };
    let budget = Budget::new(cost::PER_CALL);
    let _ = evaluated(&program, &budget);
    format!("{}; {}", budget.spent(), program.estimate(&env).max)
}

/// Compares a table with what is so.
fn table(name: &str, answer: fn(&str) -> String) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "testdata", name].iter().collect();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut is = String::new();
    for line in text.lines() {
        match line.rsplit_once(" => ").filter(|_| !line.starts_with('#')) {
            Some((expression, _)) => writeln!(is, "{expression} => {}", answer(expression)).unwrap(),
            None => writeln!(is, "{line}").unwrap(),
        }
    }
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, is).unwrap();
        return;
    }
    for (is, wanted) in is.lines().zip(text.lines()) {
        assert_eq!(is, wanted, "{}", path.display());
    }
}

#[test]
fn the_language_is_as_its_table_says() {
    table("language.txt", answer);
}

#[test]
fn libraries_are_as_their_table_says() {
    table("libraries.txt", answer);
}

#[test]
fn objects_are_read_as_their_table_says() {
    table("object.txt", answer);
}

#[test]
fn costs_are_as_their_table_says() {
    table("costs.txt", costs);
}

/// Runs in a thread with as little stack as a server's threads have.
fn in_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
    thread.join().unwrap();
}

#[test]
fn no_text_is_too_deep() {
    let shapes = [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("-(", "1", ")"),
        ("size([", "1", "])"),
        ("[1].map(x, ", "x", ")"),
        ("cel.bind(x, ", "1", ", x)"),
        ("true ? 1 : ", "2", ""),
        ("true ? (", "2", ") : 1"),
        ("[1][", "0", "]"),
        ("1 + ", "1", ""),
        ("", "d", ".a"),
        ("", "d", "[0]"),
        ("true && (", "true", " || false)"),
        ("Object{a: ", "1", "}"),
        ("dyn(", "1", ")"),
        ("optional.of(1).optMap(x, ", "x", ")"),
    ];
    for (before, middle, after) in shapes {
        let text = move |depth: usize| before.repeat(depth) + middle + &after.repeat(depth);
        in_a_small_stack(move || {
            for depth in [20, 60, 110, 240, 1000, 10_000] {
                let Ok(program) = Program::compile(&text(depth), &env()) else { continue };
                assert!(depth < 1000, "{}", text(1));
                let _ = evaluated(&program, &Budget::new(cost::PER_CALL));
                program.estimate(&env());
            }
        });
    }
    let long = format!("{}true", "true && ".repeat(10_000));
    assert_eq!(answer(&long), "bool: true");
    assert!(answer(&"(".repeat(300)).contains("expression recursion limit exceeded: 250"));
    assert!(answer(&" ".repeat(100_001)).contains("code point size exceeds limit"));
}

#[test]
fn nothing_costs_more_than_it_may() {
    let list = format!("[{}]", "1,".repeat(1000));
    for text in [
        format!("{list}.all(a, {list}.all(b, {list}.all(c, a == b)))"),
        (0..60).fold("[1]".into(), |list: String, at| format!("cel.bind(x{at}, {list}, x{at} + x{at})")),
        (0..60).fold("'a'".into(), |text: String, at| format!("cel.bind(x{at}, {text}, x{at} + x{at})")),
    ] {
        assert!(
            answer(&text).ends_with("operation cancelled: actual cost limit exceeded"),
            "{}",
            answer(&text)
        );
    }
    let grow = format!("'{}'.replace('', '{}')", "a".repeat(40_000), "b".repeat(40_000));
    assert!(answer(&grow).ends_with("result too large"));
}

#[test]
fn errors_point_at_their_places() {
    let shown = |text: &str| Program::compile(text, &env()).unwrap_err().to_string();
    assert_eq!(shown("o.spec.x"), "ERROR: <input>:1:7: undefined field 'x'\n | o.spec.x\n | ......^");
    assert_eq!(
        shown("1 + 'a' +\n  x"),
        "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a' +\n | ..^\n\
         ERROR: <input>:2:3: undeclared reference to 'x' (in container '')\n |   x\n | ..^"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is typed and evaluated: no panic, and the value is of the type that was promised.
    #[test]
    fn any_words_are_answered(words in proptest::collection::vec(proptest::sample::select(WORDS), 1..14)) {
        let text = words.join("");
        if let Ok(program) = Program::compile(&text, &env()) {
            let budget = Budget::new(1000);
            let _ = evaluated(&program, &budget);
            program.estimate(&env());
        }
    }
}

const WORDS: &[&str] = &[
    "o",
    "d",
    ".spec",
    ".name",
    ".ports",
    ".limits",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "Object{",
    "Object.spec{",
    "JSONPatch{op: ",
    "spec: ",
    ":",
    ",",
    "?",
    "1",
    "-1",
    "2u",
    "1.5",
    "'a'",
    "b'x'",
    "null",
    "true",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " < ",
    " in ",
    " && ",
    " || ",
    "!",
    "-",
    ".all(x, ",
    ".map(x, ",
    ".exists(x, ",
    ".filter(x, ",
    "x",
    "size(",
    "string(",
    "int(",
    "type(",
    "dyn(",
    ".size()",
    ".?spec",
    "[?",
    "optional.of(",
    ".orValue(",
    "has(",
    "duration('1s')",
    "timestamp('2024-01-01T00:00:00Z')",
    ".split(''",
    ".join()",
    ".replace('a', 'b')",
    ".substring(",
    ".sum()",
    ".max()",
    "quantity('1')",
    ".format(",
];
