//! The cases, by what a user does. A case's name says what must hold.

mod api;
mod apps;
mod docker;
mod first;
mod images;
mod input;
mod kube_rs;
mod lifecycle;
mod probes;
mod python;
mod node;
mod pods;
mod quota;
mod security;
mod services;
mod simulate;
mod storage;
mod store;
mod streams;
mod workloads;

use anyhow::Result;

use crate::harness::Namespace;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What must hold.
    pub name: &'static str,
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
    /// One of its own, which it starts and removes.
    Own(fn() -> Result<()>),
    /// One of its own, where nothing is missing.
    If(fn() -> Option<String>, fn() -> Result<()>),
    /// A namespace in the one whose nodes are simulated.
    Simulated(fn(&Namespace<'_>) -> Result<()>),
}

/// Every case.
pub fn all() -> Vec<Case> {
    [
        api::CASES,
        workloads::CASES,
        apps::CASES,
        probes::CASES,
        security::CASES,
        services::CASES,
        quota::CASES,
        storage::CASES,
        simulate::CASES,
        store::CASES,
        streams::CASES,
        images::CASES,
        input::CASES,
        kube_rs::CASES,
        python::CASES,
        lifecycle::CASES,
        docker::CASES,
        first::CASES,
        node::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|(name, run)| Case { name, run: *run })
    .collect()
}

/// A module's table of cases.
type Table = &'static [(&'static str, Run)];

/// A process that is ended with its case.
pub struct Running(pub std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
