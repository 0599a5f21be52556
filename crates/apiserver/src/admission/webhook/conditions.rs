//! `matchConditions`: expressions in CEL, all of which must hold for a webhook to be asked.
//!
//! They read `object`, `oldObject` and `request` (an AdmissionReview's, without its objects). One that is false settles it, whatever
//! others come to; one without a value counts only if none is false.

use tiphys_api::Value;
use tiphys_cel::value::from_tree;
use tiphys_cel::{Budget, CompileError, Decl, Env, Program, Type, Value as Cel, cost};

use crate::registry::tree;

/// The conditions of a webhook, compiled.
#[derive(Debug, Default)]
pub(super) struct Conditions(Box<[Condition]>);

#[derive(Debug)]
struct Condition {
    name: Box<str>,
    /// Or what is wrong with it; it was stored before it was looked at.
    program: Result<Program, String>,
}

/// Compiles an expression.
pub fn compile(text: &str) -> Result<Program, CompileError> {
    let any = || Decl::of(Type::Dyn);
    Program::compile(text, &Env::new().with("object", any()).with("oldObject", any()).with("request", any()))
}

impl Conditions {
    /// Of a webhook's `matchConditions`.
    pub(super) fn new(conditions: &[Value]) -> Self {
        let condition = |condition: &Value| Condition {
            name: tree::text(condition, &["name"]).into(),
            program: compile(tree::text(condition, &["expression"])).map_err(|error| error.to_string()),
        };
        Self(conditions.iter().map(condition).collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold for an AdmissionReview's request; the conditions without a value, if none is false.
    pub(super) fn hold(&self, mut request: Value) -> Result<bool, String> {
        let [object, old] = ["object", "oldObject"].map(|name| request[name].take());
        let budget = Budget::new(cost::MATCH_CONDITIONS);
        let mut failed = Vec::new();
        for Condition { name, program } in &self.0 {
            match evaluate(program, [&object, &old, &request], &budget) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(why) => failed.push(format!("condition {name:?}: {why}")),
            }
        }
        if failed.is_empty() { Ok(true) } else { Err(failed.join(", ")) }
    }
}

fn evaluate(
    program: &Result<Program, String>,
    [object, old, request]: [&Value; 3],
    budget: &Budget,
) -> Result<bool, String> {
    let program = program.as_ref().map_err(Clone::clone)?;
    let value = |tree| from_tree(tree, &Type::Dyn).map_err(|error| error.to_string());
    let values = [("object", value(object)?), ("oldObject", value(old)?), ("request", value(request)?)];
    match program.evaluate(&values, budget) {
        Ok(Cel::Bool(holds)) => Ok(holds),
        Ok(other) => Err(format!("its value is no bool but {:?}", other.type_of())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;

    #[test]
    fn one_that_is_false_settles_it() {
        let hold = |texts: &[&str]| {
            let list: Vec<Value> =
                texts.iter().map(|text| json!({"name": "c", "expression": text})).collect();
            let object = json!({"metadata": {"labels": {"a": "b"}}});
            Conditions::new(&list).hold(json!({"operation": "CREATE", "object": object, "oldObject": null}))
        };
        assert_eq!(hold(&["object.metadata.labels['a'] == 'b'", "oldObject == null"]), Ok(true));
        assert_eq!(hold(&["request.operation == 'DELETE'"]), Ok(false));
        assert_eq!(hold(&["object.spec.x", "request.operation == 'DELETE'"]), Ok(false));
        assert_eq!(hold(&["object.spec.x == 1"]).unwrap_err(), "condition \"c\": no such key: spec");
        assert!(hold(&["authorizer.x"]).unwrap_err().contains("undeclared reference to 'authorizer'"));
        assert!(Conditions::new(&[]).is_empty());
    }
}
