//! Questions to the authorizer: `authorizer.group('apps').resource('deployments').check('create').allowed()`. Who asks
//! for it brings the authorizer along, as a [`Host`](crate::value::Host).

use crate::error::EvalError;
use crate::value::{Opaque, Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("path", |args| host("path", args)),
    ("group", |args| host("group", args)),
    ("serviceAccount", |args| host("serviceAccount", args)),
    ("resource", |args| host("resource", args)),
    ("subresource", |args| host("subresource", args)),
    ("namespace", |args| host("namespace", args)),
    ("name", |args| host("name", args)),
    ("fieldSelector", |args| host("fieldSelector", args)),
    ("labelSelector", |args| host("labelSelector", args)),
    ("check", |args| host("check", args)),
    ("allowed", |args| host("allowed", args)),
    ("reason", |args| host("reason", args)),
    ("errored", |args| host("errored", args)),
    ("error", |args| host("error", args)),
];

fn host<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    match args.split_first() {
        Some((Value::Opaque(Opaque::Host(host)), rest)) => host.call(name, rest),
        _ => Err(EvalError::no_such_overload()),
    }
}
