//! The tree of an expression: what [`parse`](crate::parse) makes, [`check`](crate::check) types and
//! [`eval`](crate::eval) walks.
//!
//! Macros are nodes of their own, not folds over an accumulator as in other implementations: what a fold does is then
//! plain code, and its costs are counted as if it were one. Chains of `&&` and `||` are one node with many terms, so
//! that a long chain is not a deep tree.

use std::sync::Arc;

use regex::Regex;

use crate::functions::Function;
use crate::types::Type;

/// An expression, where it stands, and its type.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Where errors about it point: an offset in characters.
    pub at: u32,
    /// Its type, once it is checked.
    pub ty: Type,
    /// How deep the tree is below.
    pub depth: u16,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.5`
    Double(f64),
    /// `"a"`
    String(Arc<str>),
    /// `b"a"`
    Bytes(Arc<[u8]>),
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A constant.
    Literal(Literal),
    /// A variable; or, once checked, the name of a type.
    Ident(Arc<str>),
    /// `a.b`, `a.?b` and `has(a.b)`.
    Select {
        /// Of what.
        operand: Box<Expr>,
        /// The field as it is written.
        field: Arc<str>,
        /// How it is asked for.
        access: Access,
    },
    /// A function or an operator.
    Call(Box<Call>),
    /// `a && b && c`
    And(Vec<Expr>),
    /// `a || b || c`
    Or(Vec<Expr>),
    /// `a ? b : c`
    Ternary(Box<[Expr; 3]>),
    /// `[a, ?b]`: items, and whether they are optional.
    List(Vec<(Expr, bool)>),
    /// `{a: b, ?c: d}`
    Map(Vec<Entry>),
    /// `Name{field: value}`
    Struct {
        /// The type's name.
        name: Arc<str>,
        /// Its fields.
        fields: Vec<StructField>,
    },
    /// A macro over the items of a list or map.
    Fold(Box<Fold>),
    /// `cel.bind(name, value, body)`, and `optMap`: a name for a value within an expression.
    Bind(Box<Bind>),
}

/// How a field is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `a.b`
    Value,
    /// `a.?b`
    Optional,
    /// `has(a.b)`
    Presence,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name; operators are named as in `_+_`.
    pub name: Arc<str>,
    /// Whether it was written `a.f()`: the first argument is `a` then.
    pub receiver: bool,
    /// All arguments.
    pub args: Vec<Expr>,
    /// What it does, once checked.
    pub function: Option<&'static Function>,
    /// Its pattern, if that is constant.
    pub regex: Option<Regex>,
}

/// `key: value` in a map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Expr,
    /// The value.
    pub value: Expr,
    /// `?key`
    pub optional: bool,
}

/// `field: value` in a struct.
#[derive(Clone, Debug)]
pub struct StructField {
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: Expr,
    /// `?field`
    pub optional: bool,
    /// Where it stands.
    pub at: u32,
}

/// Which macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldKind {
    /// `all`
    All,
    /// `exists`
    Exists,
    /// `exists_one`
    ExistsOne,
    /// `map`
    Map,
    /// `filter`
    Filter,
    /// `transformList`
    TransformList,
    /// `transformMap`
    TransformMap,
    /// `transformMapEntry`
    TransformMapEntry,
}

/// A macro over items.
#[derive(Clone, Debug)]
pub struct Fold {
    /// Which.
    pub kind: FoldKind,
    /// Over what.
    pub range: Expr,
    /// The item's name; with two variables, the index's or key's.
    pub var: Arc<str>,
    /// With two variables, the value's name.
    pub var2: Option<Arc<str>>,
    /// Which items count.
    pub filter: Option<Expr>,
    /// What is asked of an item, or what it becomes.
    pub body: Expr,
}

/// What a name is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindKind {
    /// The value itself.
    Value,
    /// What is in an optional; the body's value becomes one (`optMap`).
    OptMap,
    /// What is in an optional; the body gives one (`optFlatMap`).
    OptFlatMap,
}

/// A name for a value.
#[derive(Clone, Debug)]
pub struct Bind {
    /// How.
    pub kind: BindKind,
    /// The name.
    pub name: Arc<str>,
    /// The value.
    pub value: Expr,
    /// Where the name stands for it.
    pub body: Expr,
}

impl Expr {
    /// An expression not checked yet.
    pub fn new(kind: Kind, at: u32) -> Self {
        let mut deepest = 0;
        kind.each(&mut |child| deepest = deepest.max(child.depth));
        Self { kind, at, ty: Type::Dyn, depth: deepest.saturating_add(1) }
    }

    /// A call of a function or operator.
    pub fn call(name: &str, receiver: bool, args: Vec<Expr>, at: u32) -> Self {
        let call = Call { name: name.into(), receiver, args, function: None, regex: None };
        Self::new(Kind::Call(Box::new(call)), at)
    }

    /// `a.b.c`, if it is nothing but names.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, access: Access::Value } => {
                Some(format!("{}.{field}", operand.qualified_name()?))
            }
            _ => None,
        }
    }

    /// The constant text that it is.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        match &self.kind {
            Kind::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether a variable of this name is read, here or below.
    pub fn mentions(&self, name: &str) -> bool {
        let mut found = matches!(&self.kind, Kind::Ident(ident) if **ident == *name);
        self.kind.each(&mut |child| found = found || child.mentions(name));
        found
    }

    /// Calls `visit` for this and everything below.
    pub fn visit<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        visit(self);
        self.kind.each(&mut |child| child.visit(visit));
    }
}

impl Kind {
    /// Calls `visit` for each direct part.
    fn each<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        match self {
            Self::Literal(_) | Self::Ident(_) => {}
            Self::Select { operand, .. } => visit(operand),
            Self::Call(call) => call.args.iter().for_each(visit),
            Self::And(terms) | Self::Or(terms) => terms.iter().for_each(visit),
            Self::Ternary(parts) => parts.iter().for_each(visit),
            Self::List(items) => items.iter().for_each(|(item, _)| visit(item)),
            Self::Map(entries) => entries.iter().for_each(|entry| {
                visit(&entry.key);
                visit(&entry.value);
            }),
            Self::Struct { fields, .. } => fields.iter().for_each(|field| visit(&field.value)),
            Self::Fold(fold) => {
                visit(&fold.range);
                fold.filter.iter().for_each(&mut *visit);
                visit(&fold.body);
            }
            Self::Bind(bind) => {
                visit(&bind.value);
                visit(&bind.body);
            }
        }
    }

    /// Calls `visit` for each direct part, to change.
    pub fn each_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        match self {
            Self::Literal(_) | Self::Ident(_) => {}
            Self::Select { operand, .. } => visit(operand),
            Self::Call(call) => call.args.iter_mut().for_each(visit),
            Self::And(terms) | Self::Or(terms) => terms.iter_mut().for_each(visit),
            Self::Ternary(parts) => parts.iter_mut().for_each(visit),
            Self::List(items) => items.iter_mut().for_each(|(item, _)| visit(item)),
            Self::Map(entries) => entries.iter_mut().for_each(|entry| {
                visit(&mut entry.key);
                visit(&mut entry.value);
            }),
            Self::Struct { fields, .. } => fields.iter_mut().for_each(|field| visit(&mut field.value)),
            Self::Fold(fold) => {
                visit(&mut fold.range);
                fold.filter.iter_mut().for_each(&mut *visit);
                visit(&mut fold.body);
            }
            Self::Bind(bind) => {
                visit(&mut bind.value);
                visit(&mut bind.body);
            }
        }
    }
}
