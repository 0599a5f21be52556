//! `[sig-api-machinery]`: the garbage collector, namespaces, quotas, watches, custom resources, webhooks, policies, other API
//! servers, and what the server says of itself.

mod aggregated;
mod custom;
mod definition;
mod garbage;
mod namespaces;
mod policies;
mod published;
mod quotas;
mod server;
mod watches;
mod webhooks;

use super::Table;

/// All of it.
pub const AREA: &[Table] = &[
    garbage::CASES,
    namespaces::CASES,
    quotas::CASES,
    watches::CASES,
    server::CASES,
    custom::CASES,
    published::CASES,
    webhooks::CASES,
    policies::CASES,
    aggregated::CASES,
];
