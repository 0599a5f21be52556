//! What Kubernetes' conformance programme asks for, behaviour by behaviour, under the programme's own names.
//!
//! - A case is called as the behaviour is, without the tag `[Conformance]`. One that shows several has several names;
//!   what no behaviour covers, but belongs beside them, has a name of its own.
//! - What a case does follows the behaviour's description; the programme's own tests are elsewhere.
//! - Cases about the control plane run on simulated nodes ([`Run::Simulated`]), those about containers on the shared node.

mod api_machinery;
mod apps;
mod auth;
mod cli;
mod instrumentation;
mod network;
mod node;
mod scheduling;
mod storage;

use std::collections::HashSet;

use anyhow::{Result, ensure};

use super::{Case, Run};

/// An area's cases: the names of what each shows, and how.
type Table = &'static [(&'static [&'static str], Run)];

/// Every area.
const AREAS: &[&[Table]] = &[
    node::AREA,
    apps::AREA,
    api_machinery::AREA,
    auth::AREA,
    cli::AREA,
    instrumentation::AREA,
    network::AREA,
    scheduling::AREA,
    storage::AREA,
];

const ONCE: &[&str] = &["every-conformance-behaviour-is-shown-once"];

/// All cases.
pub fn all() -> impl Iterator<Item = Case> {
    let tables = AREAS.iter().copied().flatten();
    let cases = tables.flat_map(|table| table.iter()).map(|(names, run)| Case { names, run: *run });
    cases.chain([Case { names: ONCE, run: Run::Own(once) }])
}

/// Nothing is counted twice, and every behaviour is called as the programme calls it.
fn once() -> Result<()> {
    let mut seen = HashSet::new();
    for name in all().flat_map(|case| case.names) {
        ensure!(!name.starts_with('[') || name.starts_with("[sig-"), "{name}: no behaviour's name");
        ensure!(name.trim() == *name && !name.contains("[Conformance]"), "{name}: not as it is called");
        ensure!(seen.insert(name), "{name}: shown twice");
    }
    Ok(())
}
