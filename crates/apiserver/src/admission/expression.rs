//! Expressions in CEL of webhooks and policies: what they may read, and what they must come to.

use tiphys_cel::{Decl, Env, Program, Type};

/// An expression that is ready, or what is wrong with it: what is stored may have been written before it was looked at.
pub type Compiled = Result<Program, String>;

/// What expressions of webhooks read.
pub const OF_WEBHOOKS: [&str; 3] = ["object", "oldObject", "request"];

/// Names that may stand for anything, and the authorizer.
pub fn env(names: &[&str]) -> Env {
    let any = names.iter().fold(Env::new(), |env, name| env.with(name, Decl::of(Type::Dyn)));
    any.with_authorizer()
}

/// Compiles an expression that must come to a type; `None`: to any.
pub fn compile(text: &str, env: &Env, wanted: Option<&Type>) -> Compiled {
    let program =
        Program::compile(text.trim(), env).map_err(|error| format!("compilation failed: {error}"))?;
    match wanted.filter(|wanted| *wanted != program.result()) {
        Some(wanted) => Err(format!("must evaluate to {wanted} but got {}", program.result())),
        None => Ok(program),
    }
}
