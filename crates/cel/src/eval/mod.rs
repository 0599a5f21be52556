//! Values of expressions: a walk over the checked tree.
//!
//! Every step is paid for from a [`Budget`], so that nothing runs long, and the tree is no deeper than
//! [`DEPTH_MAX`](crate::parse::DEPTH_MAX), so that nothing runs out of stack. `&&`, `||`, `all` and `exists` do without
//! a value that failed if the others decide; running out of budget fails everything.

mod fold;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::ast::{Access, Bind, BindKind, Call, Entry, Expr, Kind, StructField};
use crate::cost::{self, Budget};
use crate::env::Bindings;
use crate::error::EvalError;
use crate::lib;
use crate::types::Type;
use crate::value::{Key, Map, Result, Value};

/// The value of a checked expression.
pub fn evaluate<'a>(expr: &Expr, bindings: &dyn Bindings<'a>, budget: &Budget) -> Result<'a> {
    Evaluator { bindings, budget }.eval(expr, None)
}

struct Evaluator<'e, 'a> {
    bindings: &'e dyn Bindings<'a>,
    budget: &'e Budget,
}

/// A name that an expression itself gives to a value, within the names around it.
#[derive(Clone, Copy)]
struct Scope<'s, 'a> {
    name: &'s str,
    value: &'s Result<'a>,
    outer: Option<&'s Scope<'s, 'a>>,
}

type Outer<'s, 'a> = Option<&'s Scope<'s, 'a>>;

impl<'a> Evaluator<'_, 'a> {
    fn eval(&self, expr: &Expr, scope: Outer<'_, 'a>) -> Result<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(Value::from(literal)),
            Kind::Ident(name) => self.ident(name, &expr.ty, scope),
            Kind::Select { operand, field, access } => self.select(operand, field, *access, scope),
            Kind::Call(call) => self.call(call, scope),
            Kind::And(terms) => self.terms(terms, false, scope),
            Kind::Or(terms) => self.terms(terms, true, scope),
            Kind::Ternary(parts) => self.ternary(parts, scope),
            Kind::List(items) => self.list(items, scope),
            Kind::Map(entries) => self.map(entries, scope),
            Kind::Struct { name, fields } => self.structure(name, fields, scope),
            Kind::Fold(fold) => self.fold(fold, scope),
            Kind::Bind(bind) => self.bind(bind, scope),
        }
    }

    fn ident(&self, name: &str, ty: &Type, scope: Outer<'_, 'a>) -> Result<'a> {
        self.budget.charge(cost::READ)?;
        let mut at = scope;
        while let Some(here) = at {
            if here.name == name {
                return here.value.clone();
            }
            at = here.outer;
        }
        if let Some(value) = self.bindings.get(name) {
            return value;
        }
        match ty {
            Type::Type(of) => Ok(Value::Type((**of).clone())),
            _ => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&self, operand: &Expr, field: &str, access: Access, scope: Outer<'_, 'a>) -> Result<'a> {
        let of = self.eval(operand, scope)?;
        match access {
            Access::Presence => self.budget.refund(cost::READ),
            Access::Value | Access::Optional => self.budget.charge(cost::READ)?,
        }
        let (of, optional) = match of {
            Value::Optional(None) if access == Access::Presence => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, access == Access::Optional),
        };
        let found = of.field(field).transpose()?;
        match (access, found) {
            (Access::Presence, found) => Ok(Value::Bool(found.is_some())),
            (_, found) if optional => Ok(Value::Optional(found.map(Rc::new))),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(EvalError::failed(format!("no such key: {field}"))),
        }
    }

    fn call(&self, call: &Call, scope: Outer<'_, 'a>) -> Result<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.eval(arg, scope)?);
            // What stands for something that is not there is not looked at if it is.
            if matches!(args.as_slice(), [Value::Optional(Some(_))])
                && matches!(&*call.name, "or" | "orValue")
            {
                break;
            }
        }
        let result = match (&call.regex, call.function) {
            (Some(regex), _) => lib::regex::with(&call.name, regex, &args)?,
            (None, Some(function)) => {
                // What depends on sizes that the arguments tell is paid for before it is done.
                if !matches!(&*call.name, "join") {
                    self.budget.charge(cost::call(&call.name, &args, &Value::Null))?;
                    return (function.run)(&args);
                }
                (function.run)(&args)?
            }
            (None, None) => return Err(EvalError::no_such_overload()),
        };
        self.budget.charge(cost::call(&call.name, &args, &result))?;
        Ok(result)
    }

    /// `&&` and `||`: `decisive` is the value that decides, whatever the others are.
    fn terms(&self, terms: &[Expr], decisive: bool, scope: Outer<'_, 'a>) -> Result<'a> {
        let mut failed = None;
        for term in terms {
            match self.eval(term, scope) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
                Ok(_) => failed = failed.or_else(|| Some(EvalError::no_such_overload())),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn ternary(&self, [condition, yes, no]: &[Expr; 3], scope: Outer<'_, 'a>) -> Result<'a> {
        match self.eval(condition, scope)? {
            Value::Bool(true) => self.eval(yes, scope),
            Value::Bool(false) => self.eval(no, scope),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn list(&self, items: &[(Expr, bool)], scope: Outer<'_, 'a>) -> Result<'a> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            values.extend(self.element(item, *optional, scope)?);
        }
        self.budget.charge(cost::LIST)?;
        Ok(Value::list(values))
    }

    /// A value, or what is in an optional.
    fn element(&self, expr: &Expr, optional: bool, scope: Outer<'_, 'a>) -> Result<'a, Option<Value<'a>>> {
        match (self.eval(expr, scope)?, optional) {
            (value, false) => Ok(Some(value)),
            (Value::Optional(inner), true) => Ok(inner.map(|inner| (*inner).clone())),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn map(&self, entries: &[Entry], scope: Outer<'_, 'a>) -> Result<'a> {
        let mut made = BTreeMap::new();
        for entry in entries {
            let key = self.eval(&entry.key, scope)?;
            let Some(value) = self.element(&entry.value, entry.optional, scope)? else { continue };
            insert(&mut made, key, value)?;
        }
        self.budget.charge(cost::MAP)?;
        Ok(Value::Map(Map::Entries(Rc::new(made))))
    }

    fn structure(&self, name: &Arc<str>, fields: &[StructField], scope: Outer<'_, 'a>) -> Result<'a> {
        let mut made = BTreeMap::new();
        for field in fields {
            if let Some(value) = self.element(&field.value, field.optional, scope)? {
                made.insert(field.name.clone(), value);
            }
        }
        self.budget.charge(cost::STRUCT)?;
        Ok(Value::Map(Map::Object(name.clone(), Rc::new(made))))
    }

    fn bind(&self, bind: &Bind, scope: Outer<'_, 'a>) -> Result<'a> {
        let value = match (bind.kind, self.eval(&bind.value, scope)) {
            (_, Err(EvalError::CostLimit)) => return Err(EvalError::CostLimit),
            // A value that failed matters where it is read.
            (BindKind::Value, value) => value,
            (_, Ok(Value::Optional(None))) => return Ok(Value::Optional(None)),
            (_, Ok(Value::Optional(Some(inner)))) => Ok((*inner).clone()),
            (_, Ok(_)) => return Err(EvalError::no_such_overload()),
            (_, Err(error)) => return Err(error),
        };
        let scope = Scope { name: &bind.name, value: &value, outer: scope };
        let body = self.eval(&bind.body, Some(&scope))?;
        Ok(if bind.kind == BindKind::OptMap { Value::some(body) } else { body })
    }
}

/// Puts an entry into a map that is being made.
fn insert<'a>(
    made: &mut BTreeMap<Key, (Value<'a>, Value<'a>)>,
    key: Value<'a>,
    value: Value<'a>,
) -> Result<'a, ()> {
    let Some(place) = Key::of(&key).filter(|_| !matches!(key, Value::Double(_))) else {
        return Err(EvalError::failed(format!("unsupported key type: {}", key.type_of().runtime_name())));
    };
    let shown = lib::convert::shown(&key);
    match made.insert(place, (key, value)) {
        Some(_) => Err(EvalError::failed(format!("Failed with repeated key '{shown}'"))),
        None => Ok(()),
    }
}
