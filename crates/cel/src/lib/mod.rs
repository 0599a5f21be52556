//! What functions do: CEL's own and Kubernetes' libraries, a file each, under their names.
//!
//! A function takes its arguments as they come, the receiver first, and answers `no such overload` to what it does not
//! know: where the checker knew all types, that cannot happen.

pub mod authorizer;
pub mod cidr;
pub mod convert;
pub mod format;
mod ip;
mod jsonpatch;
mod lists;
mod operators;
mod optional;
mod printf;
mod quantity;
pub mod regex;
mod semver;
mod sets;
mod strings;
pub mod time;
pub mod url;

use crate::functions::Run;

/// A library: its functions by name.
type Library = &'static [(&'static str, Run)];

const LIBRARIES: [Library; 17] = [
    operators::FUNCTIONS,
    convert::FUNCTIONS,
    strings::FUNCTIONS,
    printf::FUNCTIONS,
    lists::FUNCTIONS,
    sets::FUNCTIONS,
    regex::FUNCTIONS,
    time::FUNCTIONS,
    optional::FUNCTIONS,
    url::FUNCTIONS,
    quantity::FUNCTIONS,
    ip::FUNCTIONS,
    cidr::FUNCTIONS,
    format::FUNCTIONS,
    semver::FUNCTIONS,
    authorizer::FUNCTIONS,
    jsonpatch::FUNCTIONS,
];

/// What a function of the table does.
pub fn named(name: &str) -> Option<Run> {
    LIBRARIES.iter().flat_map(|library| library.iter()).find(|(known, _)| *known == name).map(|(_, run)| *run)
}
