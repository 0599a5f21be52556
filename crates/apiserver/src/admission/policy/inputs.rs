//! What expressions of a policy read: `object`, `oldObject`, `request`, `params`, `namespaceObject`, `authorizer`, and `variables`,
//! which are evaluated when they are first read.
//!
//! A variable has the type of its expression, and reads those before it. `params` is there only in a policy with a `paramKind`.

use std::cell::{Cell, RefCell};

use tiphys_api::Value;
use tiphys_cel::value::from_tree;
use tiphys_cel::{Bindings, Budget, Env, EvalError, Type, Value as Cel};

use super::super::authority::Asker;
use super::super::expression::{self, Compiled};
use super::super::webhook::Asked;
use crate::registry::tree;

/// What expressions read besides variables.
const NAMES: [&str; 5] = ["object", "oldObject", "request", "namespaceObject", "params"];

/// How many variables may wait for each other: each takes a share of the stack.
const WAITING_MAX: u8 = 32;

/// What a policy's expressions may read.
pub struct Inputs {
    /// What conditions may read: no variables.
    pub plain: Env,
    /// What all others may read.
    pub env: Env,
    /// In their order: names as `variables.name`, and what they are.
    pub variables: Box<[(String, Compiled)]>,
}

impl Inputs {
    /// Of a policy's spec.
    pub fn new(spec: &Value) -> Self {
        let known = if tree::at(spec, &["paramKind"]).is_object() { NAMES.len() } else { NAMES.len() - 1 };
        let plain = expression::env(NAMES.get(..known).unwrap_or_default());
        let mut env = plain.clone();
        let mut variables = Vec::new();
        for variable in tree::items(spec, &["variables"]) {
            let name = format!("variables.{}", tree::text(variable, &["name"]));
            let compiled = expression::compile(tree::text(variable, &["expression"]), &env, None);
            let ty = compiled.as_ref().map_or(Type::Dyn, |program| program.result().clone());
            env = env.with(&name, ty);
            variables.push((name, compiled));
        }
        Self { plain, env, variables: variables.into() }
    }
}

/// A request, as expressions of a policy read it.
pub struct Read<'a> {
    inputs: &'a Inputs,
    values: [&'a Value; NAMES.len()],
    asker: &'a Asker,
    /// What they may cost together.
    pub budget: &'a Budget,
    variables: RefCell<Vec<Option<Result<Cel<'a>, EvalError>>>>,
    waiting: Cell<u8>,
}

impl<'a> Read<'a> {
    /// A request, the object of its namespace, and a parameter.
    pub fn new(
        inputs: &'a Inputs,
        asked: &'a Asked,
        (namespace, params): (&'a Value, &'a Value),
        budget: &'a Budget,
    ) -> Self {
        let values = [&asked.object, &asked.old, &asked.request, namespace, params];
        let variables = RefCell::new(vec![None; inputs.variables.len()]);
        Self { inputs, values, asker: &asked.asker, budget, variables, waiting: Cell::new(0) }
    }
}

impl<'a> Bindings<'a> for Read<'a> {
    fn get(&self, name: &str) -> Option<Result<Cel<'a>, EvalError>> {
        if let Some((_, value)) = NAMES.iter().zip(self.values).find(|(known, _)| **known == name) {
            return Some(from_tree(value, &Type::Dyn));
        }
        if let Some(value) = self.asker.named(name) {
            return Some(Ok(value));
        }
        let at = self.inputs.variables.iter().position(|(known, _)| known == name)?;
        if let Some(Some(known)) = self.variables.borrow().get(at) {
            return Some(known.clone());
        }
        let (_, program) = self.inputs.variables.get(at)?;
        let waiting = self.waiting.get();
        let value = match program {
            Ok(_) if waiting >= WAITING_MAX => {
                let why = format!("variables refer to each other more than {WAITING_MAX} deep");
                return Some(Err(EvalError::failed(why)));
            }
            Ok(program) => {
                self.waiting.set(waiting + 1);
                let value = program.evaluate(self, self.budget);
                self.waiting.set(waiting);
                // Each variable may wrap the one before it, and their number has no bound.
                match value {
                    Ok(deep) if deep.is_too_deep() => Err(EvalError::failed("nested deeper than 128 levels")),
                    other => other,
                }
            }
            Err(why) => Err(EvalError::failed(why.as_str())),
        };
        if let Some(place) = self.variables.borrow_mut().get_mut(at) {
            *place = Some(value.clone());
        }
        Some(value)
    }
}
