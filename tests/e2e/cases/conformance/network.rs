//! Services and what leads to pods, as the programme names their behaviours.

mod api;
mod reach;

use super::Table;

/// All of it.
pub const AREA: &[Table] = &[reach::CASES, api::CASES];
