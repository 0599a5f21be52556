//! What is truly a kind's own: a row of facts and at most a few functions, found by group and resource.
//!
//! Everything else about a kind is in the schema and its rules (`tiphys_api::validate`). A kind without a row gets
//! [`Rules::DEFAULT`]. Functions get trees that fit their schema, with defaults filled in, in the storage version.

mod certificate;
mod classes;
mod conditions;
mod config;
pub(crate) mod definition;
mod job;
mod namespace;
mod node;
mod pod;
mod quota;
mod service;
mod status;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod workload;

use tiphys_api::{Value, field};

pub use table::of;

use crate::auth::User;

/// What a kind adds to the generic engine.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `metadata.generation` counts changes of what is neither metadata nor status.
    pub generation: bool,
    /// Status is no part of the desired state.
    pub status_apart: bool,
    /// A finalizer that a deletion begins with.
    pub holds: Option<&'static str>,
    /// An update without `resourceVersion` replaces whatever is there.
    pub unconditional_update: bool,
    /// A PUT of an absent name creates it.
    pub create_on_update: bool,
    /// Deletion without a propagation policy leaves dependents behind.
    pub orphans: bool,
    /// Status given on create is kept.
    pub status_on_create: bool,
    /// Grace period in seconds of a deletion that asks for so many (`None`: the object decides); kinds without a
    /// grace period have none.
    pub grace: Option<fn(&Value, Option<i64>) -> i64>,
    /// Turns what is only for writing into what is stored (`stringData`), before defaults.
    pub normalize: fn(&mut Value),
    /// Sets what only the server may set on a new object of this user. Identity and times are set already.
    pub on_create: fn(&mut Value, &User),
    /// Puts back what this update may not change: (new, old, subresource).
    pub on_update: fn(&mut Value, &Value, &str),
    /// Changes more than metadata when a deletion marks the object, as a namespace's phase.
    pub on_delete: fn(&mut Value),
    /// Rules of a new object beyond those of its schema.
    pub validate: fn(&Value, &mut field::Errors),
    /// Rules of a new object that do not hold for a later one.
    pub validate_create: fn(&Value, &mut field::Errors),
    /// Rules of a change: (new, old, subresource, errors).
    pub validate_update: fn(&Value, &Value, &str, &mut field::Errors),
}

impl Rules {
    /// A kind with nothing of its own.
    pub const DEFAULT: Self = Self {
        generation: false,
        status_apart: true,
        holds: None,
        unconditional_update: true,
        create_on_update: false,
        orphans: false,
        status_on_create: false,
        grace: None,
        normalize: |_| {},
        on_create: |_, _| {},
        on_update: |_, _, _| {},
        on_delete: |_| {},
        validate: |_, _| {},
        validate_create: |_, _| {},
        validate_update: |_, _, _, _| {},
    };
}
