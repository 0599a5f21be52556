//! What is wrong with a policy's expressions, told when it is written.

use tiphys_api::Value;
use tiphys_cel::{Env, Type};

use super::super::expression;
use super::inputs::Inputs;
use super::mutation;
use crate::registry::tree;

/// What is wrong with one expression.
#[derive(Debug)]
pub struct Wrong {
    /// Where it stands below `spec`.
    pub at: String,
    /// The expression.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// What is wrong with the expressions of the spec of a policy of this kind. Those that are missing are told of elsewhere.
pub fn judge(kind: &str, spec: &Value) -> Vec<Wrong> {
    let inputs = Inputs::new(spec);
    let mut found = Vec::new();
    for (index, (variable, (_, compiled))) in
        tree::items(spec, &["variables"]).iter().zip(&inputs.variables).enumerate()
    {
        let text = tree::text(variable, &["expression"]);
        if let (false, Err(why)) = (text.trim().is_empty(), compiled) {
            let at = format!("variables[{index}].expression");
            found.push(Wrong { at, text: text.to_owned(), why: why.clone() });
        }
    }
    let mut judge = |at: String, text: &str, env: &Env, wanted: &Type| {
        if let (false, Err(why)) = (text.trim().is_empty(), expression::compile(text, env, Some(wanted))) {
            found.push(Wrong { at, text: text.to_owned(), why });
        }
    };
    for (index, condition) in tree::items(spec, &["matchConditions"]).iter().enumerate() {
        let at = format!("matchConditions[{index}].expression");
        judge(at, tree::text(condition, &["expression"]), &inputs.plain, &Type::Bool);
    }
    match kind {
        "ValidatingAdmissionPolicy" => {
            for (index, validation) in tree::items(spec, &["validations"]).iter().enumerate() {
                for (name, wanted) in [("expression", Type::Bool), ("messageExpression", Type::String)] {
                    let at = format!("validations[{index}].{name}");
                    judge(at, tree::text(validation, &[name]), &inputs.env, &wanted);
                }
            }
        }
        "MutatingAdmissionPolicy" => {
            let env = mutation::env(&inputs);
            for (index, mutation) in tree::items(spec, &["mutations"]).iter().enumerate() {
                let Some(form) = mutation::Form::of(mutation) else { continue };
                let at = format!("mutations[{index}].{}.expression", form.field());
                judge(at, form.text(mutation), &env, &form.wanted());
            }
        }
        _ => {}
    }
    found
}
