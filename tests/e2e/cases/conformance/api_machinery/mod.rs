//! `[sig-api-machinery]`: the garbage collector, namespaces, quotas, watches and what the server says of itself.

mod garbage;
mod namespaces;
mod quotas;
mod server;
mod watches;

use super::Table;

/// All of it.
pub const AREA: &[Table] = &[garbage::CASES, namespaces::CASES, quotas::CASES, watches::CASES, server::CASES];
