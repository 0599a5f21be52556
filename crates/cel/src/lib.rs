//! CEL as Kubernetes uses it: expressions over objects, with types, costs and Kubernetes' libraries.
//!
//! - [`Env`] says which variables an expression may read and of what types: an OpenAPI schema's
//!   ([`types::openapi`]), a built-in kind's ([`types::builtin`]), or any.
//! - [`Program::compile`] parses and checks a text; what is wrong with it is told as Kubernetes tells it.
//! - [`Program::evaluate`] gives its value for an object, which it reads in place, within a [`Budget`].
//! - [`Program::estimate`] says beforehand what it may cost at most.
//!
//! No input panics, runs longer than its budget, or runs out of stack. Why none of the existing crates:
//! `docs/decisions/cel.md`.

pub mod ast;
mod check;
pub mod cost;
mod env;
mod error;
mod eval;
mod functions;
#[path = "lib/mod.rs"]
mod lib;
mod parse;
#[cfg(test)]
mod tests;
pub mod types;
pub mod value;

pub use cost::Budget;
pub use env::{Bindings, Env};
pub use error::{CompileError, EvalError, Issue};
pub use types::{Decl, Type};
pub use value::{Host, Value};

use ast::Expr;

/// An expression, ready to be evaluated any number of times.
#[derive(Clone, Debug)]
pub struct Program {
    expr: Expr,
}

impl Program {
    /// Parses and checks a text.
    pub fn compile(text: &str, env: &Env) -> Result<Self, CompileError> {
        let mut expr = parse::parse(text)?;
        let issues = check::check(&mut expr, env);
        match issues.is_empty() {
            true => Ok(Self { expr }),
            false => Err(CompileError::new(text, issues)),
        }
    }

    /// The type of its value.
    pub fn result(&self) -> &Type {
        &self.expr.ty
    }

    /// The checked tree.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether it reads a variable of this name.
    pub fn reads(&self, variable: &str) -> bool {
        self.expr.mentions(variable)
    }

    /// The least and the most it may cost.
    pub fn estimate(&self, env: &Env) -> cost::Range {
        cost::estimate(&self.expr, env)
    }

    /// Its value. What it costs is charged to the budget.
    pub fn evaluate<'a>(&self, bindings: &dyn Bindings<'a>, budget: &Budget) -> value::Result<'a> {
        eval::evaluate(&self.expr, bindings, budget)
    }
}
