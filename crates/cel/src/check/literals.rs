//! Constants that can never work are refused when the expression is written: durations, times and patterns. A constant
//! pattern is compiled here, once.

use crate::ast::{Call, Expr};
use crate::lib::{regex, time};

/// What is wrong with a call's constant, if anything.
pub fn check(call: &mut Call) -> Option<&'static str> {
    match (&*call.name, call.args.as_slice()) {
        ("duration", [arg]) => {
            time::parse_duration(arg.as_text()?).is_none().then_some("invalid duration argument")
        }
        ("timestamp", [arg]) => {
            time::parse_timestamp(arg.as_text()?).is_none().then_some("invalid timestamp argument")
        }
        ("matches" | "find" | "findAll", [_, pattern, ..]) => {
            let pattern: &Expr = pattern;
            match regex::compile(pattern.as_text()?) {
                Ok(compiled) => call.regex = Some(compiled),
                Err(_) if *call.name == *"matches" => return Some("invalid matches argument"),
                Err(_) => {}
            }
            None
        }
        _ => None,
    }
}
