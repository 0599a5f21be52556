//! Macros over items. What each step costs is what it costs where macros are folds over an accumulator: reading and
//! writing that is paid for here too, though nothing is read or written.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Evaluator, Outer, Scope, insert};
use crate::ast::{Expr, Fold, FoldKind};
use crate::cost;
use crate::error::EvalError;
use crate::value::{Key, Map, Result, Value};

/// An item: its index or key, and its value.
type Item<'a> = (Value<'a>, Result<'a>);

/// What a fold has so far.
struct Progress<'a> {
    failed: Option<EvalError>,
    count: usize,
    values: Vec<Value<'a>>,
    entries: BTreeMap<Key, (Value<'a>, Value<'a>)>,
}

impl<'a> Evaluator<'_, 'a> {
    pub(super) fn fold(&self, fold: &Fold, scope: Outer<'_, 'a>) -> Result<'a> {
        let range = self.eval(&fold.range, scope)?;
        self.budget.charge(match fold.kind {
            FoldKind::Map | FoldKind::Filter | FoldKind::TransformList => cost::LIST,
            FoldKind::TransformMap | FoldKind::TransformMapEntry => cost::MAP,
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => 0,
        })?;
        let mut progress = Progress { failed: None, count: 0, values: Vec::new(), entries: BTreeMap::new() };
        for item in items(&range, fold.var2.is_some())? {
            if let Some(decided) = self.step(fold, item, scope, &mut progress)? {
                return Ok(decided);
            }
        }
        self.budget.charge(cost::READ)?;
        finished(fold.kind, progress)
    }

    /// One item; a value if it decides.
    fn step(
        &self,
        fold: &Fold,
        (key, value): Item<'a>,
        scope: Outer<'_, 'a>,
        progress: &mut Progress<'a>,
    ) -> Result<'a, Option<Value<'a>>> {
        let key = Ok(key);
        let (first, second) = match &fold.var2 {
            Some(_) => (&key, &value),
            None => (&value, &value),
        };
        let first_scope = Scope { name: &fold.var, value: first, outer: scope };
        let second_scope =
            fold.var2.as_ref().map(|name| Scope { name, value: second, outer: Some(&first_scope) });
        let within = Some(second_scope.as_ref().unwrap_or(&first_scope));
        if let Some(filter) = &fold.filter
            && !self.truth(filter, within)?
        {
            self.budget.charge(cost::READ)?;
            return Ok(None);
        }
        match fold.kind {
            FoldKind::All => self.decide(&fold.body, within, false, progress),
            FoldKind::Exists => self.decide(&fold.body, within, true, progress),
            FoldKind::ExistsOne => {
                let counts = self.truth(&fold.body, within)?;
                self.budget.charge(1 + u64::from(counts))?;
                progress.count += usize::from(counts);
                Ok(None)
            }
            FoldKind::Filter => self.filter(&fold.body, within, first, progress),
            FoldKind::Map | FoldKind::TransformList => {
                progress.values.push(self.eval(&fold.body, within)?);
                self.budget.charge(cost::LIST + 2)?;
                Ok(None)
            }
            FoldKind::TransformMap | FoldKind::TransformMapEntry => {
                self.entry(fold, within, key.clone(), progress)
            }
        }
    }

    fn truth(&self, expr: &Expr, scope: Outer<'_, 'a>) -> Result<'a, bool> {
        match self.eval(expr, scope)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `all` and `exists`: an item that failed matters only if no other decides.
    fn decide(
        &self,
        body: &Expr,
        scope: Outer<'_, 'a>,
        decisive: bool,
        progress: &mut Progress<'a>,
    ) -> Result<'a, Option<Value<'a>>> {
        self.budget.charge(3 + u64::from(decisive))?;
        match self.truth(body, scope) {
            Ok(value) if value == decisive => {
                self.budget.charge(cost::READ)?;
                Ok(Some(Value::Bool(decisive)))
            }
            Err(EvalError::CostLimit) => Err(EvalError::CostLimit),
            Ok(_) => Ok(None),
            Err(error) => {
                progress.failed.get_or_insert(error);
                Ok(None)
            }
        }
    }

    fn filter(
        &self,
        body: &Expr,
        scope: Outer<'_, 'a>,
        item: &Result<'a>,
        progress: &mut Progress<'a>,
    ) -> Result<'a, Option<Value<'a>>> {
        if self.truth(body, scope)? {
            self.budget.charge(cost::LIST + 3)?;
            progress.values.push(item.clone()?);
        } else {
            self.budget.charge(cost::READ)?;
        }
        Ok(None)
    }

    fn entry(
        &self,
        fold: &Fold,
        scope: Outer<'_, 'a>,
        key: Result<'a>,
        progress: &mut Progress<'a>,
    ) -> Result<'a, Option<Value<'a>>> {
        let value = self.eval(&fold.body, scope)?;
        self.budget.charge(3)?;
        match (fold.kind, value) {
            (FoldKind::TransformMap, value) => insert(&mut progress.entries, key?, value)?,
            (_, Value::Map(map)) => {
                for (key, value) in map.entries() {
                    insert(&mut progress.entries, key, value?)?;
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        Ok(None)
    }
}

/// The items; of a map, with one variable, its keys.
fn items<'a>(range: &Value<'a>, two: bool) -> Result<'a, Vec<Item<'a>>> {
    match range {
        Value::List(list) => {
            let index = |at: usize| Value::Int(i64::try_from(at).unwrap_or(i64::MAX));
            Ok(list.iter().enumerate().map(|(at, item)| (index(at), item)).collect())
        }
        Value::Map(map) if two => Ok(map.entries()),
        Value::Map(map) => Ok(map.keys().into_iter().map(|key| (key.clone(), Ok(key))).collect()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn finished<'a>(kind: FoldKind, progress: Progress<'a>) -> Result<'a> {
    if let Some(error) = progress.failed {
        return Err(error);
    }
    Ok(match kind {
        FoldKind::All => Value::Bool(true),
        FoldKind::Exists => Value::Bool(false),
        FoldKind::ExistsOne => Value::Bool(progress.count == 1),
        FoldKind::Map | FoldKind::Filter | FoldKind::TransformList => Value::list(progress.values),
        FoldKind::TransformMap | FoldKind::TransformMapEntry => {
            Value::Map(Map::Entries(Rc::new(progress.entries)))
        }
    })
}
