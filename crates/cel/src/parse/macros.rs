//! Calls that are no calls: macros, known by their names and how many arguments they have.

use std::sync::Arc;

use crate::ast::{Access, Bind, BindKind, Expr, Fold, FoldKind, Kind};
use crate::error::Issue;

/// `f(args)`.
pub fn function(name: &str, mut args: Vec<Expr>, at: u32) -> Result<Expr, Issue> {
    if name != "has" || args.len() != 1 {
        return Ok(Expr::call(name, false, args, at));
    }
    match args.pop().map(|arg| (arg.kind, arg.at)) {
        Some((Kind::Select { operand, field, access: Access::Value }, _)) => {
            Ok(Expr::new(Kind::Select { operand, field, access: Access::Presence }, at))
        }
        other => Err(Issue::new(other.map_or(at, |(_, at)| at), "invalid argument to has() macro")),
    }
}

/// `target.f(args)`.
pub fn method(target: Expr, name: &str, args: Vec<Expr>, at: u32) -> Result<Expr, Issue> {
    let is_cel = matches!(&target.kind, Kind::Ident(ident) if &**ident == "cel");
    match (name, args.len()) {
        ("bind", 3) if is_cel => {
            let [name, value, body] = three(args, at)?;
            bind(
                BindKind::Value,
                &name,
                value,
                body,
                at,
                "cel.bind() variable name must be a simple identifier",
            )
        }
        ("optMap" | "optFlatMap", 2) => {
            let kind = if name == "optMap" { BindKind::OptMap } else { BindKind::OptFlatMap };
            let [var, body] = two(args, at)?;
            bind(kind, &var, target, body, at, &format!("{name}() variable name must be a simple identifier"))
        }
        _ => match fold_kind(name, args.len()) {
            Some(shape) => fold(shape, target, args, at),
            None => {
                let args = std::iter::once(target).chain(args).collect();
                Ok(Expr::call(name, true, args, at))
            }
        },
    }
}

/// Whether it has two variables and a filter.
#[derive(Clone, Copy)]
struct Shape {
    kind: FoldKind,
    two: bool,
    filter: bool,
}

fn fold_kind(name: &str, args: usize) -> Option<Shape> {
    let shape = |kind, two, filter| Some(Shape { kind, two, filter });
    match (name, args) {
        ("all", 2) => shape(FoldKind::All, false, false),
        ("exists", 2) => shape(FoldKind::Exists, false, false),
        ("exists_one" | "existsOne", 2) => shape(FoldKind::ExistsOne, false, false),
        ("map", 2) => shape(FoldKind::Map, false, false),
        ("map", 3) => shape(FoldKind::Map, false, true),
        ("filter", 2) => shape(FoldKind::Filter, false, false),
        ("all", 3) => shape(FoldKind::All, true, false),
        ("exists", 3) => shape(FoldKind::Exists, true, false),
        ("exists_one" | "existsOne", 3) => shape(FoldKind::ExistsOne, true, false),
        ("transformList", 3) => shape(FoldKind::TransformList, true, false),
        ("transformList", 4) => shape(FoldKind::TransformList, true, true),
        ("transformMap", 3) => shape(FoldKind::TransformMap, true, false),
        ("transformMap", 4) => shape(FoldKind::TransformMap, true, true),
        ("transformMapEntry", 3) => shape(FoldKind::TransformMapEntry, true, false),
        ("transformMapEntry", 4) => shape(FoldKind::TransformMapEntry, true, true),
        _ => None,
    }
}

fn fold(shape: Shape, range: Expr, args: Vec<Expr>, at: u32) -> Result<Expr, Issue> {
    let mut args = args.into_iter();
    let mut next = || args.next().ok_or_else(|| Issue::new(at, "invalid macro"));
    let var = variable(&next()?)?;
    let var2 = if shape.two { Some(variable(&next()?)?) } else { None };
    if var2.as_ref() == Some(&var) {
        return Err(Issue::new(at, format!("duplicate variable name: {var}")));
    }
    let filter = if shape.filter { Some(next()?) } else { None };
    let body = next()?;
    Ok(Expr::new(Kind::Fold(Box::new(Fold { kind: shape.kind, range, var, var2, filter, body })), at))
}

fn bind(kind: BindKind, name: &Expr, value: Expr, body: Expr, at: u32, wrong: &str) -> Result<Expr, Issue> {
    let Kind::Ident(ident) = &name.kind else { return Err(Issue::new(name.at, wrong)) };
    Ok(Expr::new(Kind::Bind(Box::new(Bind { kind, name: ident.clone(), value, body })), at))
}

fn variable(expr: &Expr) -> Result<Arc<str>, Issue> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Issue::new(expr.at, "argument must be a simple name")),
    }
}

fn two(args: Vec<Expr>, at: u32) -> Result<[Expr; 2], Issue> {
    args.try_into().map_err(|_| Issue::new(at, "invalid macro"))
}

fn three(args: Vec<Expr>, at: u32) -> Result<[Expr; 3], Issue> {
    args.try_into().map_err(|_| Issue::new(at, "invalid macro"))
}
