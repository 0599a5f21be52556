//! Policies in CEL that an administrator sets over requests, where bindings apply them.
//!
//! - [`MutatingAdmissionPolicies`] change objects, [`ValidatingAdmissionPolicies`] refuse them. They differ in their rules
//!   only: how policies and bindings are read ([`bound`]), which requests they are about, which parameters they get
//!   ([`params`]) and what expressions read ([`inputs`]) is the same for both.
//! - Which requests a policy is about is told as for webhooks ([`Webhooks::in_scope`](super::webhook::Webhooks::in_scope)).
//! - Policies and bindings are compiled once per change of either; with none a request costs two looks at a number.
//! - [`judge`] says what is wrong with a policy's expressions when it is written.

mod bound;
mod inputs;
mod judge;
mod mutating;
mod mutation;
mod params;
mod validating;

pub use judge::judge;
pub use mutating::MutatingAdmissionPolicies;
pub use validating::ValidatingAdmissionPolicies;
