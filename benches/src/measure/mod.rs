//! The measurements, one file each. Every one starts from nothing and leaves nothing.

mod controllers;
mod creates;
mod crowd;
mod fanout;
mod forms;
mod idle;
mod list;
mod mixed;
mod node;
mod pods;
mod services;
mod size;
mod start;
mod verbs;

use anyhow::Result;
use futures::future::LocalBoxFuture;

use crate::cluster::Ground;
use crate::report::Row;

/// A measurement.
pub struct Measure {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Whether it starts a cluster.
    pub needs_root: bool,
    /// Does it.
    pub run: for<'a> fn(&'a Ground) -> LocalBoxFuture<'a, Result<Vec<Row>>>,
}

/// All of them, in the order of the record.
pub const ALL: &[Measure] = &[
    Measure { name: "size", about: "the binary", needs_root: false, run: |g| Box::pin(size::run(g)) },
    Measure {
        name: "start",
        about: "from exec to a ready API, node and pod",
        needs_root: true,
        run: |g| Box::pin(start::run(g)),
    },
    Measure {
        name: "idle",
        about: "memory and CPU when nothing happens",
        needs_root: true,
        run: |g| Box::pin(idle::run(g)),
    },
    Measure {
        name: "pods",
        about: "pod start beside the bare CRI calls",
        needs_root: true,
        run: |g| Box::pin(pods::run(g)),
    },
    Measure {
        name: "node",
        about: "50 pods at once, and 110 at rest",
        needs_root: true,
        run: |g| Box::pin(node::run(g)),
    },
    Measure {
        name: "services",
        about: "1,000 and 10,000 Services in the kernel",
        needs_root: true,
        run: |g| Box::pin(services::run(g)),
    },
    Measure {
        name: "creates",
        about: "API creates by concurrency",
        needs_root: true,
        run: |g| Box::pin(creates::run(g)),
    },
    Measure {
        name: "verbs",
        about: "reads, patches, renewals and deletions of single objects",
        needs_root: true,
        run: |g| Box::pin(verbs::run(g)),
    },
    Measure {
        name: "list",
        about: "lists of 10,000 pods",
        needs_root: true,
        run: |g| Box::pin(list::run(g)),
    },
    Measure {
        name: "fanout",
        about: "events to many watchers",
        needs_root: true,
        run: |g| Box::pin(fanout::run(g)),
    },
    Measure {
        name: "forms",
        about: "protobuf beside JSON",
        needs_root: true,
        run: |g| Box::pin(forms::run(g)),
    },
    Measure {
        name: "crowd",
        about: "the beginning of large lists, and many of them at once",
        needs_root: true,
        run: |g| Box::pin(crowd::run(g)),
    },
    Measure {
        name: "mixed",
        about: "memory in ten minutes of everything",
        needs_root: true,
        run: |g| Box::pin(mixed::run(g)),
    },
    Measure {
        name: "scale",
        about: "large Deployments and deletions, on simulated nodes",
        needs_root: true,
        run: |g| Box::pin(controllers::large(g)),
    },
    Measure {
        name: "steady",
        about: "what controllers cost while 500 nodes beat and 10,000 pods run",
        needs_root: true,
        run: |g| Box::pin(controllers::steady(g)),
    },
];
