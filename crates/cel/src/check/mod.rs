//! Gives every expression its type, finds what names mean, and refuses what cannot work.
//!
//! - A name is a variable, a variable with dots in its name, a type, or unknown.
//! - A call takes every way of calling its function that the arguments fit; if their results differ, the result is
//!   known only when it is evaluated.
//! - Errors are collected: an expression that is wrong has a type that fits everywhere.

mod literals;
mod unify;

use std::sync::Arc;

use crate::ast::{Access, Bind, BindKind, Call, Expr, Fold, FoldKind, Kind, Literal, StructField};
use crate::env::Env;
use crate::error::Issue;
use crate::functions;
use crate::types::{self, Type};
use unify::Unifier;

/// Types a tree; gives back all that is wrong.
pub fn check(expr: &mut Expr, env: &Env) -> Vec<Issue> {
    let mut checker = Checker { env, scopes: Vec::new(), unifier: Unifier::default(), issues: Vec::new() };
    checker.expr(expr);
    checker.settle(expr);
    checker.issues
}

struct Checker<'e> {
    env: &'e Env,
    scopes: Vec<(Arc<str>, Type)>,
    unifier: Unifier,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn wrong(&mut self, at: u32, message: String) -> Type {
        self.issues.push(Issue::new(at, message));
        Type::Error
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let ty = match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(&name.clone(), at),
            Kind::Select { .. } => return self.select(expr),
            Kind::Call(call) => self.call(call, at),
            Kind::And(terms) => self.terms(terms, "_&&_", at),
            Kind::Or(terms) => self.terms(terms, "_||_", at),
            Kind::Ternary(parts) => self.ternary(parts, at),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { .. } => self.structure(expr),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Bind(bind) => self.bind(bind),
        };
        expr.ty = ty.clone();
        ty
    }

    /// Puts in all types what was found out about them.
    fn settle(&self, expr: &mut Expr) {
        expr.ty = self.unifier.settled(&expr.ty);
        expr.kind.each_mut(&mut |child| self.settle(child));
    }

    fn variable(&self, name: &str) -> Option<Type> {
        let local = self.scopes.iter().rev().find(|(local, _)| **local == *name);
        local.map(|(_, ty)| ty.clone()).or_else(|| Some(self.env.variable(name)?.ty.clone()))
    }

    /// The type that a name stands for.
    fn named(&self, name: &str) -> Option<Type> {
        types::named(name).or_else(|| self.env.structure(name))
    }

    fn ident(&mut self, name: &str, at: u32) -> Type {
        self.variable(name)
            .or_else(|| self.named(name).map(Type::as_type))
            .unwrap_or_else(|| self.wrong(at, format!("undeclared reference to '{name}' (in container '')")))
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        if let Some(ty) = self.dotted(expr) {
            return ty;
        }
        let at = expr.at;
        let Kind::Select { operand, field, access } = &mut expr.kind else { return Type::Error };
        let of = self.expr(operand);
        let of = self.unifier.resolved(&of);
        let ty = match &of {
            Type::Optional(inner) => {
                let inner = self.unifier.resolved(inner);
                wrapped(self.field(&inner, field, at))
            }
            of if *access == Access::Optional => wrapped(self.field(of, field, at)),
            of => self.field(of, field, at),
        };
        expr.ty = if *access == Access::Presence { Type::Bool } else { ty };
        expr.ty.clone()
    }

    /// A variable or type whose name has dots in it.
    fn dotted(&mut self, expr: &mut Expr) -> Option<Type> {
        let name = expr.qualified_name()?;
        let first = name.split('.').next()?;
        let ty = match self.env.variable(&name) {
            Some(decl) => decl.ty.clone(),
            None if self.variable(first).is_none() => self.named(&name)?.as_type(),
            None => return None,
        };
        expr.kind = Kind::Ident(name.into());
        expr.ty = ty.clone();
        Some(ty)
    }

    fn field(&mut self, of: &Type, name: &str, at: u32) -> Type {
        match of {
            Type::Dyn | Type::Error | Type::Param(_) => Type::Dyn,
            Type::Map(map) => map.value.ty.clone(),
            Type::Object(_) | Type::Struct(_) => match of.field(name) {
                Some(field) => field.decl.ty,
                None => self.wrong(at, format!("undefined field '{name}'")),
            },
            other => {
                let shown = self.unifier.settled(other);
                self.wrong(at, format!("type '{shown}' does not support field selection"))
            }
        }
    }

    fn call(&mut self, call: &mut Call, at: u32) -> Type {
        self.namespaced(call);
        let args: Vec<Type> = call.args.iter_mut().map(|arg| self.expr(arg)).collect();
        let Some(function) = functions::named(&call.name) else {
            return self.wrong(at, format!("undeclared reference to '{}' (in container '')", call.name));
        };
        call.function = Some(function);
        if let Some(message) = literals::check(call) {
            let at = call.args.last().map_or(at, |arg| arg.at);
            return self.wrong(at, message.into());
        }
        if args.contains(&Type::Error) {
            return Type::Error;
        }
        self.overload(call, &args).unwrap_or_else(|| {
            let shown = self.unifier.applied(&args, call.receiver);
            self.wrong(at, format!("found no matching overload for '{}' applied to '{shown}'", call.name))
        })
    }

    /// `sets.contains(a, b)` is no method of `sets`.
    fn namespaced(&self, call: &mut Call) {
        if !call.receiver {
            return;
        }
        let space = call.args.first().and_then(Expr::qualified_name);
        let Some(space) = space.filter(|space| self.variable(space).is_none()) else { return };
        let name = format!("{space}.{}", call.name);
        if functions::named(&name).is_some() {
            call.name = name.into();
            call.receiver = false;
            call.args.remove(0);
        }
    }

    /// The result of all overloads that fit.
    fn overload(&mut self, call: &Call, args: &[Type]) -> Option<Type> {
        let mut result: Option<Type> = None;
        for overload in call.function.map(|function| function.overloads.as_slice()).unwrap_or_default() {
            if overload.receiver != call.receiver || overload.args.len() != args.len() {
                continue;
            }
            let Some(found) = self.unifier.apply(overload, args) else { continue };
            result = Some(match result {
                Some(before) if before != found => Type::Dyn,
                _ => found,
            });
        }
        result
    }

    fn expect(&mut self, wanted: &Type, expr_type: &Type, at: u32) {
        if !self.unifier.assign(wanted, expr_type) {
            let (wanted, found) = (self.unifier.settled(wanted), self.unifier.settled(expr_type));
            self.wrong(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }

    fn terms(&mut self, terms: &mut [Expr], name: &str, at: u32) -> Type {
        let types: Vec<Type> = terms.iter_mut().map(|term| self.expr(term)).collect();
        let pairs = types.windows(2).map(<[Type]>::to_vec).collect::<Vec<_>>();
        for (index, pair) in pairs.iter().enumerate() {
            // The terms before are known to be truth values by now.
            let shown = if index == 0 {
                pair.clone()
            } else {
                vec![Type::Bool, pair.last().cloned().unwrap_or(Type::Dyn)]
            };
            if !shown.iter().all(|ty| self.unifier.assign(&Type::Bool, ty)) {
                let shown = self.unifier.applied(&shown, false);
                return self
                    .wrong(at, format!("found no matching overload for '{name}' applied to '{shown}'"));
            }
        }
        Type::Bool
    }

    fn ternary(&mut self, parts: &mut [Expr; 3], at: u32) -> Type {
        let [condition, yes, no] = parts.each_mut().map(|part| self.expr(part));
        if [&condition, &yes, &no].contains(&&Type::Error) {
            return Type::Error;
        }
        let result = self.unifier.fresh();
        let fits = self.unifier.assign(&Type::Bool, &condition)
            && self.unifier.assign(&result, &yes)
            && self.unifier.assign(&result, &no);
        if fits {
            return self.unifier.settled_partly(&result);
        }
        let shown = self.unifier.applied(&[condition, yes, no], false);
        self.wrong(at, format!("found no matching overload for '_?_:_' applied to '{shown}'"))
    }

    /// The type of values that must be alike.
    fn joined(&mut self, before: Option<Type>, next: Type, at: u32) -> Type {
        match before {
            None => next,
            Some(before) if self.unifier.assign(&before, &next) => self.unifier.more_general(&before, &next),
            Some(before) if self.unifier.assign(&next, &before) => next,
            Some(before) => {
                self.expect(&before, &next, at);
                before
            }
        }
    }

    fn list(&mut self, items: &mut [(Expr, bool)]) -> Type {
        let mut item_type = None;
        for (item, optional) in items.iter_mut() {
            let mut ty = self.expr(item);
            if *optional {
                ty = self.unwrapped(&ty, item.at);
            }
            item_type = Some(self.joined(item_type, ty, item.at));
        }
        Type::list(item_type.unwrap_or_else(|| self.unifier.fresh()))
    }

    fn map(&mut self, entries: &mut [crate::ast::Entry]) -> Type {
        let (mut key_type, mut value_type) = (None, None);
        for entry in entries.iter_mut() {
            let key = self.expr(&mut entry.key);
            key_type = Some(self.joined(key_type, key, entry.key.at));
            let mut value = self.expr(&mut entry.value);
            if entry.optional {
                value = self.unwrapped(&value, entry.value.at);
            }
            value_type = Some(self.joined(value_type, value, entry.value.at));
        }
        let mut or_fresh = |ty: Option<Type>| ty.unwrap_or_else(|| self.unifier.fresh());
        Type::map(or_fresh(key_type), or_fresh(value_type))
    }

    /// What is in an optional.
    fn unwrapped(&mut self, ty: &Type, at: u32) -> Type {
        match self.unifier.resolved(ty) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn | Type::Error | Type::Param(_) => Type::Dyn,
            other => {
                let shown = self.unifier.settled(&other);
                self.wrong(at, format!("expected type 'optional_type(_)' but found '{shown}'"))
            }
        }
    }

    fn structure(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let Kind::Struct { name, fields } = &mut expr.kind else { return Type::Error };
        let Some(decl) = self.env.structure(name) else {
            return self.wrong(at, format!("undeclared reference to '{name}' (in container '')"));
        };
        for field in fields {
            let mut found = self.expr(&mut field.value);
            if field.optional {
                found = self.unwrapped(&found, field.value.at);
            }
            self.structure_field(&decl, field, &found);
        }
        decl
    }

    /// A field of an object that is made: it must be one of its type's, and fit.
    fn structure_field(&mut self, of: &Type, field: &StructField, found: &Type) {
        let name = &field.name;
        let Some(wanted) = of.field(name).map(|field| field.decl.ty) else {
            self.wrong(field.at, format!("undefined field '{name}'"));
            return;
        };
        if !self.unifier.assign(&wanted, found) {
            let found = self.unifier.settled(found);
            let why = format!("expected type of field '{name}' is '{wanted}' but provided type is '{found}'");
            self.wrong(field.at, why);
        }
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.expr(&mut fold.range);
        let range = self.unifier.resolved(&range);
        let (key, value) = match &range {
            Type::List(list) => (Type::Int, list.item.ty.clone()),
            Type::Map(map) => (map.key.ty.clone(), map.value.ty.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => (Type::Dyn, Type::Dyn),
            other => {
                let shown = self.unifier.settled(other);
                let message = format!(
                    "expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (Type::Error, self.wrong(fold.range.at, message))
            }
        };
        let before = self.scopes.len();
        match &fold.var2 {
            Some(var2) => {
                self.scopes.extend([(fold.var.clone(), key.clone()), (var2.clone(), value.clone())])
            }
            None => {
                let item = if matches!(range, Type::Map(_)) { key.clone() } else { value.clone() };
                self.scopes.push((fold.var.clone(), item));
            }
        }
        let ty = self.fold_body(fold, &range, &key, &value);
        self.scopes.truncate(before);
        ty
    }

    fn fold_body(&mut self, fold: &mut Fold, range: &Type, key: &Type, value: &Type) -> Type {
        if let Some(filter) = &mut fold.filter {
            let ty = self.expr(filter);
            self.expect(&Type::Bool, &ty, filter.at);
        }
        let body = self.expr(&mut fold.body);
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => {
                self.expect(&Type::Bool, &body, fold.body.at);
                Type::Bool
            }
            FoldKind::Filter => {
                self.expect(&Type::Bool, &body, fold.body.at);
                Type::list(if matches!(range, Type::Map(_)) { key.clone() } else { value.clone() })
            }
            FoldKind::Map | FoldKind::TransformList => Type::list(body),
            FoldKind::TransformMap => Type::map(key.clone(), body),
            FoldKind::TransformMapEntry => match self.unifier.resolved(&body) {
                map @ Type::Map(_) => map,
                Type::Dyn | Type::Error => Type::map(Type::Dyn, Type::Dyn),
                other => self.wrong(fold.body.at, format!("expected type 'map' but found '{other}'")),
            },
        }
    }

    fn bind(&mut self, bind: &mut Bind) -> Type {
        let mut value = self.expr(&mut bind.value);
        if bind.kind != BindKind::Value {
            value = self.unwrapped(&value, bind.value.at);
        }
        self.scopes.push((bind.name.clone(), value));
        let body = self.expr(&mut bind.body);
        self.scopes.pop();
        match bind.kind {
            BindKind::Value | BindKind::OptFlatMap => body,
            BindKind::OptMap => Type::optional(body),
        }
    }
}

/// The field of something that may not be there.
fn wrapped(ty: Type) -> Type {
    match ty {
        optional @ (Type::Optional(_) | Type::Error) => optional,
        other => Type::optional(other),
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
