//! Services and what leads to pods, as the programme names their behaviours.

mod api;
mod dns;
mod proxy;
mod reach;

use super::Table;

/// All of it.
pub const AREA: &[Table] = &[reach::CASES, dns::CASES, proxy::CASES, api::CASES];
