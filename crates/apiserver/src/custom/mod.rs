//! Custom resources: what CustomResourceDefinitions make of the API while it is served.
//!
//! - `status` decides, from the definitions alone, which names each has and whether it is established.
//! - `keeper` follows the definitions: it compiles them, gives their objects a cache, serves them, writes what it decided
//!   into their status, and empties those that are going away.
//!
//! A definition is served before its status says so: who waits for `Established` finds it.

mod keeper;
pub(crate) mod rules;
mod status;
#[cfg(test)]
mod tests;

pub use keeper::{Customs, Error};
