//! `matchConditions`: expressions in CEL, all of which must hold for a webhook or policy to be asked.
//!
//! Those of webhooks read `object`, `oldObject`, `request` (an AdmissionReview's, without its objects) and `authorizer`, those of
//! policies what policies read. One that is false settles it, whatever others come to; one without a value counts only if none is false.

use tiphys_api::Value;
use tiphys_cel::value::from_tree;
use tiphys_cel::{Bindings, Budget, Env, Type, Value as Cel, cost};

use super::super::authority::{AUTHORIZER, REQUEST_RESOURCE};
use super::super::expression::{self, Compiled};
use super::shown::Asked;
use crate::registry::tree;

/// The conditions of a webhook, compiled.
#[derive(Debug, Default)]
pub struct Conditions(Box<[Condition]>);

#[derive(Debug)]
struct Condition {
    name: Box<str>,
    program: Compiled,
}

impl Conditions {
    /// Of a list of `matchConditions`.
    pub fn new(conditions: &[Value], env: &Env) -> Self {
        let condition = |condition: &Value| Condition {
            name: tree::text(condition, &["name"]).into(),
            program: expression::compile(tree::text(condition, &["expression"]), env, Some(&Type::Bool)),
        };
        Self(conditions.iter().map(condition).collect())
    }

    /// Of a webhook.
    pub(super) fn of_webhook(conditions: &[Value]) -> Self {
        Self::new(conditions, &expression::env(&expression::OF_WEBHOOKS))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold for a webhook that is asked about a request.
    pub(super) fn hold_for(&self, asked: &Asked) -> Result<bool, String> {
        let value = |tree| from_tree(tree, &Type::Dyn).map_err(|error| error.to_string());
        let values = [value(&asked.object)?, value(&asked.old)?, value(&asked.request)?];
        let mut bindings: Vec<_> = expression::OF_WEBHOOKS.into_iter().zip(values).collect();
        let authority = [AUTHORIZER, REQUEST_RESOURCE].into_iter();
        bindings.extend(authority.filter_map(|name| Some((name, asked.asker.named(name)?))));
        self.hold(&bindings)
    }

    /// Whether all hold; the conditions without a value, if none is false.
    pub fn hold<'a>(&self, bindings: &dyn Bindings<'a>) -> Result<bool, String> {
        let budget = Budget::new(cost::MATCH_CONDITIONS);
        let mut failed = Vec::new();
        for Condition { name, program } in &self.0 {
            match evaluate(program, bindings, &budget) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(why) => failed.push(format!("condition {name:?}: {why}")),
            }
        }
        if failed.is_empty() { Ok(true) } else { Err(failed.join(", ")) }
    }
}

fn evaluate<'a>(program: &Compiled, bindings: &dyn Bindings<'a>, budget: &Budget) -> Result<bool, String> {
    match program.as_ref().map_err(Clone::clone)?.evaluate(bindings, budget) {
        Ok(Cel::Bool(holds)) => Ok(holds),
        Ok(other) => Err(format!("its value is no bool but {:?}", other.type_of())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tiphys_api::json;

    use super::*;
    use crate::admission::authority::Asker;
    use crate::auth::User;
    use crate::registry::testing::AllowAll;

    fn asked(request: Value) -> Asked {
        let asker = Asker::of_user(Arc::new(AllowAll), User { name: "jane".into(), ..User::default() });
        Asked::of(request, Default::default(), asker)
    }

    #[test]
    fn one_that_is_false_settles_it() {
        let hold = |texts: &[&str]| {
            let list: Vec<Value> =
                texts.iter().map(|text| json!({"name": "c", "expression": text})).collect();
            let object = json!({"metadata": {"labels": {"a": "b"}}});
            let asked = asked(json!({"operation": "CREATE", "object": object, "oldObject": null}));
            Conditions::of_webhook(&list).hold_for(&asked)
        };
        assert_eq!(hold(&["object.metadata.labels['a'] == 'b'", "oldObject == null"]), Ok(true));
        assert_eq!(hold(&["request.operation == 'DELETE'"]), Ok(false));
        assert_eq!(hold(&["object.spec.x == 1", "request.operation == 'DELETE'"]), Ok(false));
        assert_eq!(hold(&["object.spec.x == 1"]).unwrap_err(), "condition \"c\": no such key: spec");
        assert!(hold(&["object.spec"]).unwrap_err().contains("must evaluate to bool but got dyn"));
        assert_eq!(hold(&["authorizer.path('/x').check('get').allowed()"]), Ok(true));
        assert_eq!(hold(&["authorizer.requestResource.check('get').allowed()"]), Ok(true));
        assert!(Conditions::of_webhook(&[]).is_empty());
    }
}
