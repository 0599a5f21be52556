//! The cases, by what a user does. A case's name says what must hold.

mod api;
mod chaos;
mod conformance;
mod docker;
mod first;
mod images;
mod input;
mod kube_rs;
mod lifecycle;
mod node;
mod pods;
mod probes;
mod python;
mod quota;
mod security;
mod services;
mod simulate;
mod storage;
mod store;
mod streams;
mod volumes;
mod workloads;

use anyhow::Result;

use crate::harness::Namespace;
pub use crate::harness::Running;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What must hold; one run shows it all.
    pub names: &'static [&'static str],
    /// How to show it.
    pub run: Run,
}

/// Which cluster a case needs.
#[derive(Clone, Copy)]
pub enum Run {
    /// A namespace in the shared one.
    Shared(fn(&Namespace<'_>) -> Result<()>),
    /// The same, where the first finds nothing missing; else the case is skipped, and says why.
    SharedIf(fn() -> Option<String>, fn(&Namespace<'_>) -> Result<()>),
    /// A namespace in the one whose nodes are simulated.
    Simulated(fn(&Namespace<'_>) -> Result<()>),
    /// One of its own, which it starts and removes.
    Own(fn() -> Result<()>),
    /// One of its own, where nothing is missing.
    If(fn() -> Option<String>, fn() -> Result<()>),
}

/// Every case.
pub fn all() -> Vec<Case> {
    [
        api::CASES,
        workloads::CASES,
        chaos::CASES,
        pods::CASES,
        probes::CASES,
        security::CASES,
        services::CASES,
        quota::CASES,
        storage::CASES,
        volumes::CASES,
        simulate::CASES,
        store::CASES,
        streams::CASES,
        node::CASES,
        images::CASES,
        input::CASES,
        kube_rs::CASES,
        python::CASES,
        lifecycle::CASES,
        docker::CASES,
        first::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|(name, run)| Case { names: std::slice::from_ref(name), run: *run })
    .chain(conformance::all())
    .collect()
}

/// A module's table of cases.
type Table = &'static [(&'static str, Run)];
