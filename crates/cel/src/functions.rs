//! The table of functions: what each takes and gives (`functions.txt`) and what it does ([`lib`](crate::lib)).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::error::EvalError;
use crate::lib;
use crate::types::{self, Type};
use crate::value::Value;

/// What a function does with its arguments, the receiver first.
pub type Run = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// A function under a name.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: Arc<str>,
    /// What it takes and gives.
    pub overloads: Vec<Overload>,
    /// What it does.
    pub run: Run,
}

/// One way to call a function.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Whether it is called as `a.f()`.
    pub receiver: bool,
    /// What it takes, the receiver first.
    pub args: Vec<Type>,
    /// What it gives.
    pub result: Type,
}

static FUNCTIONS: LazyLock<HashMap<Arc<str>, Function>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    let lines = include_str!("functions.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, overloads) = read(line).unwrap_or_else(|| unreachable!("a line of the table: {line}"));
        let run = lib::named(name).unwrap_or_else(|| unreachable!("a function of the table: {name}"));
        let name: Arc<str> = name.into();
        let make = || Function { name: name.clone(), overloads: Vec::new(), run };
        all.entry(name.clone()).or_insert_with(make).overloads.extend(overloads);
    }
    all
});

/// The function of a name.
pub fn named(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

/// A line of the table.
fn read(line: &'static str) -> Option<(&'static str, Vec<Overload>)> {
    let (head, result) = line.split_once(" -> ")?;
    let (name, args) = head.split_once('(')?;
    let args = args.strip_suffix(')')?;
    let (name, receiver) = name.strip_prefix('.').map_or((name, false), |name| (name, true));
    let result = types::parse(result)?;
    let all = match args {
        "ordered" => ordered(),
        args => vec![arguments(args)?],
    };
    Some((name, all.into_iter().map(|args| Overload { receiver, args, result: result.clone() }).collect()))
}

fn arguments(text: &str) -> Option<Vec<Type>> {
    let (mut depth, mut start, mut all) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                all.push(types::parse(text.get(start..at)?)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        all.push(types::parse(text.get(start..)?)?);
    }
    Some(all)
}

/// Pairs that have an order: of one type, and of any two that are numbers.
fn ordered() -> Vec<Vec<Type>> {
    let same = [Type::Bool, Type::String, Type::Bytes, Type::Timestamp, Type::Duration];
    let numbers = [Type::Int, Type::Uint, Type::Double];
    let mut all: Vec<Vec<Type>> = same.into_iter().map(|ty| vec![ty.clone(), ty]).collect();
    for a in &numbers {
        all.extend(numbers.iter().map(|b| vec![a.clone(), b.clone()]));
    }
    all
}
