//! The most an expression may cost, from how large the values it reads may be.
//!
//! Sizes come from the declarations of variables: a list of at most ten texts of at most a hundred characters. What
//! nobody limits is as large as a request can be, and so is the cost.

use std::sync::Arc;

use super::{AUTHORIZATION, CHARACTER, LIST, MAP, PATTERN, READ, Range, STRUCT};
use crate::ast::{Access, Bind, Call, Expr, Fold, FoldKind, Kind, Literal};
use crate::env::Env;
use crate::types::{Decl, Type, UNBOUNDED};

/// The least and the most a checked expression may cost.
pub fn estimate(expr: &Expr, env: &Env) -> Range {
    Estimator { env, scopes: Vec::new() }.expr(expr).cost
}

/// What is known of an expression.
#[derive(Clone)]
struct Estimate {
    cost: Range,
    size: Range,
    /// What its parts are.
    decl: Decl,
}

struct Estimator<'e> {
    env: &'e Env,
    scopes: Vec<(Arc<str>, Decl)>,
}

fn known(decl: Decl, cost: Range) -> Estimate {
    let size = if decl.ty.is_sized() { Range::up_to(decl.max) } else { Range::exactly(1) };
    Estimate { cost, size, decl }
}

/// A value of a type, of which only its size is known.
fn made(ty: &Type, size: Range, cost: Range) -> Estimate {
    Estimate { cost, size, decl: Decl { max: size.max, ..ty.clone().into() } }
}

impl Estimator<'_> {
    fn expr(&mut self, expr: &Expr) -> Estimate {
        match &expr.kind {
            Kind::Literal(literal) => made(&expr.ty, literal_size(literal), Range::exactly(0)),
            Kind::Ident(name) => known(self.variable(name, &expr.ty), Range::exactly(READ)),
            Kind::Select { operand, field, access } => self.select(expr, operand, field, *access),
            Kind::Call(call) => self.call(expr, call),
            Kind::And(terms) | Kind::Or(terms) => self.terms(expr, terms),
            Kind::Ternary(parts) => self.ternary(parts),
            Kind::List(items) => {
                let parts: Vec<Estimate> = items.iter().map(|(item, _)| self.expr(item)).collect();
                self.list(expr, &parts)
            }
            Kind::Map(entries) => {
                let costs =
                    entries.iter().map(|entry| self.expr(&entry.key).cost.plus(self.expr(&entry.value).cost));
                let cost = costs.fold(Range::exactly(MAP), Range::plus);
                made(&expr.ty, Range::exactly(entries.len() as u64), cost)
            }
            Kind::Struct { fields, .. } => {
                let costs = fields.iter().map(|field| self.expr(&field.value).cost);
                made(&expr.ty, Range::exactly(1), costs.fold(Range::exactly(STRUCT), Range::plus))
            }
            Kind::Fold(fold) => self.fold(expr, fold),
            Kind::Bind(bind) => self.bind(bind),
        }
    }

    fn variable(&self, name: &str, ty: &Type) -> Decl {
        let local = self.scopes.iter().rev().find(|(local, _)| **local == *name).map(|(_, decl)| decl);
        local.or_else(|| self.env.variable(name)).cloned().unwrap_or_else(|| ty.clone().into())
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, access: Access) -> Estimate {
        let of = self.expr(operand);
        if access == Access::Presence {
            return made(&expr.ty, Range::exactly(1), of.cost);
        }
        let decl = match &of.decl.ty {
            Type::Map(map) => map.value.clone(),
            ty => ty.field(field).map_or_else(|| expr.ty.clone().into(), |field| field.decl),
        };
        known(decl, of.cost.plus(Range::exactly(READ)))
    }

    fn terms(&mut self, expr: &Expr, terms: &[Expr]) -> Estimate {
        let costs: Vec<Range> = terms.iter().map(|term| self.expr(term).cost).collect();
        let all = costs.iter().copied().fold(Range::exactly(0), Range::plus);
        let min = costs.first().map_or(0, |first| first.min);
        made(&expr.ty, Range::exactly(1), Range { min, max: all.max })
    }

    fn ternary(&mut self, [condition, yes, no]: &[Expr; 3]) -> Estimate {
        let condition = self.expr(condition);
        let (yes, no) = (self.expr(yes), self.expr(no));
        let size = yes.size.or(no.size);
        let decl = if yes.decl.max >= no.decl.max { yes.decl } else { no.decl };
        Estimate { cost: condition.cost.plus(yes.cost.or(no.cost)), size, decl }
    }

    fn list(&mut self, expr: &Expr, parts: &[Estimate]) -> Estimate {
        let cost = parts.iter().map(|part| part.cost).fold(Range::exactly(LIST), Range::plus);
        let item = parts
            .iter()
            .max_by_key(|part| part.size.max)
            .map(|part| Decl { max: part.size.max, ..part.decl.clone() });
        let mut estimate = made(&expr.ty, Range::exactly(parts.len() as u64), cost);
        if let Some(item) = item {
            estimate.decl.ty = list_of(item);
        }
        estimate
    }

    /// What each item costs includes what it costs other implementations to carry a result from item to item.
    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Estimate {
        let range = self.expr(&fold.range);
        let before = self.scopes.len();
        let (key, value) = parts(&range.decl);
        match &fold.var2 {
            Some(var2) => {
                self.scopes.extend([(fold.var.clone(), key.clone()), (var2.clone(), value.clone())])
            }
            None => {
                let item = if matches!(range.decl.ty, Type::Map(_)) { key.clone() } else { value.clone() };
                self.scopes.push((fold.var.clone(), item));
            }
        }
        let filter = fold.filter.as_ref().map_or(Range::exactly(0), |filter| self.expr(filter).cost);
        let body = self.expr(&fold.body);
        self.scopes.truncate(before);
        let (start, step) = match fold.kind {
            FoldKind::All => (0, Range::exactly(3)),
            FoldKind::Exists => (0, Range::exactly(4)),
            FoldKind::ExistsOne => (1, Range { min: 1, max: 2 }),
            FoldKind::Map | FoldKind::TransformList => (LIST, Range::exactly(LIST + 2)),
            FoldKind::Filter => (LIST, Range { min: 1, max: LIST + 3 }),
            FoldKind::TransformMap | FoldKind::TransformMapEntry => (MAP, Range::exactly(3)),
        };
        let each = body.cost.plus(filter).plus(step);
        let cost = range.cost.plus(Range::exactly(start + READ)).plus(range.size.times(each));
        let mut estimate = made(&expr.ty, Range::exactly(1), cost);
        if estimate.decl.ty.is_sized() {
            estimate.size = Range::up_to(range.size.max);
            estimate.decl.max = range.size.max;
        }
        match fold.kind {
            FoldKind::Filter => {
                estimate.decl.ty = list_of(if matches!(range.decl.ty, Type::Map(_)) { key } else { value })
            }
            FoldKind::Map | FoldKind::TransformList => {
                estimate.decl.ty = list_of(Decl { max: body.size.max, ..body.decl });
            }
            _ => {}
        }
        estimate
    }

    fn bind(&mut self, bind: &Bind) -> Estimate {
        let value = self.expr(&bind.value);
        self.scopes.push((bind.name.clone(), Decl { max: value.size.max, ..value.decl }));
        let body = self.expr(&bind.body);
        self.scopes.pop();
        Estimate { cost: value.cost.plus(body.cost).plus(Range::exactly(LIST)), ..body }
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Estimate {
        let args: Vec<Estimate> = call.args.iter().map(|arg| self.expr(arg)).collect();
        let argument_costs = args.iter().map(|arg| arg.cost).fold(Range::exactly(0), Range::plus);
        let (own, size) = function(&call.name, &args);
        let cost = argument_costs.plus(own);
        match (&*call.name, args.first()) {
            ("_[_]", Some(of)) => known(parts(&of.decl).1, cost),
            ("dyn", Some(of)) => Estimate { cost, ..of.clone() },
            ("_+_", Some(of)) if matches!(of.decl.ty, Type::List(_)) => {
                let size = size.unwrap_or(Range::UNKNOWN);
                Estimate { cost, size, decl: Decl { max: size.max, ..of.decl.clone() } }
            }
            _ if !expr.ty.is_sized() => made(&expr.ty, Range::exactly(1), cost),
            _ => made(&expr.ty, size.unwrap_or(Range::UNKNOWN), cost),
        }
    }
}

fn list_of(item: Decl) -> Type {
    Type::List(Arc::new(crate::types::List { item, kind: tiphys_api::schema::ListKind::Atomic }))
}

fn literal_size(literal: &Literal) -> Range {
    Range::exactly(match literal {
        Literal::String(text) => text.chars().count() as u64,
        Literal::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    })
}

/// Keys or indexes, and values or items.
fn parts(decl: &Decl) -> (Decl, Decl) {
    match &decl.ty {
        Type::List(list) => (Type::Int.into(), list.item.clone()),
        Type::Map(map) => (map.key.clone(), map.value.clone()),
        _ => (Type::Dyn.into(), Type::Dyn.into()),
    }
}

/// Most characters of a number, a time or a truth value as text.
const PRINTED_MAX: u64 = 40;

/// What a function costs besides its arguments, and how large its result is.
fn function(name: &str, args: &[Estimate]) -> (Range, Option<Range>) {
    let size = |at: usize| args.get(at).map_or(Range::UNKNOWN, |arg| arg.size);
    let text_first =
        args.first().is_some_and(|arg| matches!(arg.decl.ty, Type::String | Type::Bytes | Type::Dyn));
    let one = Range::exactly(1);
    match name {
        "check" => (Range::exactly(AUTHORIZATION), None),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => (traversal(args), None),
        "url" | "isURL" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            (size(0).part(CHARACTER), None)
        }
        "ip" if text_first => (size(0).part(CHARACTER), None),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => (size(0).part(CHARACTER), Some(size(0))),
        "replace" => (size(0).part(2.0 * CHARACTER), Some(replaced(size(0), size(1), size(2)))),
        "split" | "ip.isCanonical" => (size(0).part(2.0 * CHARACTER), Some(Range::up_to(size(0).max))),
        "join" => joined(args),
        "matches" | "find" | "findAll" => {
            let cost = size(0).plus(one).part(CHARACTER).times(size(1).part(PATTERN));
            (cost, Some(Range::up_to(size(0).max)))
        }
        "contains" => (size(0).part(CHARACTER).times(size(1).part(CHARACTER)), None),
        "startsWith" | "endsWith" => (size(1).part(CHARACTER), None),
        "format" => (size(0).part(CHARACTER), None),
        "strings.quote" | "jsonpatch.escapeKey" => {
            (size(0).part(CHARACTER), Some(Range { min: size(0).min, max: size(0).max.saturating_mul(2) }))
        }
        "string" | "bytes" if text_first => {
            (size(0).part(CHARACTER), Some(size(0).times(Range { min: 1, max: 4 })))
        }
        "string" => (one, Some(Range::up_to(PRINTED_MAX))),
        "validate" => (size(1).part(CHARACTER), None),
        "@in" if matches!(args.get(1).map(|arg| &arg.decl.ty), Some(Type::List(_))) => (size(1), None),
        "sets.contains" | "sets.intersects" | "sets.equivalent" => (size(0).times(size(1)).plus(one), None),
        "containsIP" | "containsCIDR" => (Range { min: 1, max: 8 }.plus(size(1).part(CHARACTER)), None),
        "_==_" | "_!=_" => (smaller(size(0), size(1)), None),
        "_<_" | "_<=_" | "_>_" | "_>=_" if text_first => (smaller(size(0), size(1)), None),
        "_+_" => addition(args),
        _ => (one, None),
    }
}

fn smaller(a: Range, b: Range) -> Range {
    let max = a.max.min(b.max);
    Range { min: u64::from(max > 0), max }.part(CHARACTER)
}

fn addition(args: &[Estimate]) -> (Range, Option<Range>) {
    let total = args.iter().map(|arg| arg.size).fold(Range::exactly(0), Range::plus);
    match args.first().map(|arg| &arg.decl.ty) {
        Some(Type::String | Type::Bytes | Type::Dyn) => (total.part(CHARACTER), Some(total)),
        _ => (Range::exactly(1), Some(total)),
    }
}

fn traversal(args: &[Estimate]) -> Range {
    let Some(of) = args.first() else { return Range::exactly(0) };
    match &of.decl.ty {
        Type::List(list) => {
            let text = matches!(list.item.ty, Type::String | Type::Bytes);
            let item = if text { Range::up_to(list.item.max).part(CHARACTER) } else { Range::exactly(0) };
            of.size.times(item.plus(Range::exactly(1)))
        }
        _ => of.size.part(CHARACTER),
    }
}

fn replaced(text: Range, old: Range, new: Range) -> Range {
    let count = match old.min {
        0 => text.max.saturating_add(1),
        _ if new.max <= old.min => 0,
        min => text.max.div_ceil(min),
    };
    let kept = if old.min == 0 || new.max <= old.min { text.max } else { 0 };
    Range::up_to(count.saturating_mul(new.max).saturating_add(kept))
}

fn joined(args: &[Estimate]) -> (Range, Option<Range>) {
    let Some(list) = args.first() else { return (Range::UNKNOWN, None) };
    let item = match &list.decl.ty {
        Type::List(of) => Range::up_to(of.item.max),
        _ => Range::up_to(UNBOUNDED),
    };
    let separator = args.get(1).map_or(Range::exactly(0), |by| by.size);
    let between = Range { min: list.size.min.saturating_sub(1), max: list.size.max.saturating_sub(1) };
    let size = list.size.times(item).plus(separator.times(between));
    (size.part(CHARACTER), Some(size))
}
