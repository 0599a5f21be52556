//! etcd's v3 gRPC API, answered from any [`Store`]: `KV`, `Watch`, `Lease`, `Maintenance` and the list of members.
//!
//! - What the contract of [`Store`] means is what etcd means, so that this crate only translates: [`kv`] and [`watch`],
//!   [`lease`] and [`maintenance`], a file per service, with the errors in etcd's own words ([`answer`]).
//! - Whoever connects may read and write everything, the cluster's secrets included. So there is no way in without TLS,
//!   and a client's certificate must say that it is an administrator's ([`tls`]).
//! - It is one member that leads itself: there are no elections and no members to add.

mod answer;
mod bolt;
#[cfg(test)]
mod decoders;
mod kv;
mod lease;
mod listen;
mod maintenance;
mod route;
mod snapshot;
mod tls;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use tiphys_store::Store;

pub use listen::{Config, Error, serve};
pub use tls::Identity;

/// What every method is given.
pub(crate) struct Api {
    /// The keys.
    pub(crate) store: Arc<dyn Store>,
    /// Name of the one member.
    pub(crate) name: String,
    /// Where clients reach it.
    pub(crate) url: String,
    /// A directory for files of some moments.
    pub(crate) scratch: PathBuf,
}
