//! The API server's front: TLS, HTTP/2 and HTTP/1.1, and what a request is before and after the registry.
//!
//! - [`listen`] owns the socket and connections, [`handle`] the way of one request: read ([`path`]), authenticate,
//!   impersonate, authorize, dispatch to [`resource`] or [`paths`], answer.
//! - Nothing here knows a kind: paths, verbs and shapes follow from the table of resources.
//! - Lists and watches are the cache's own bytes ([`encode`], [`watch`], [`body`]); nothing is encoded twice.
//! - In-process clients do not pass here.

pub mod answer;
pub mod body;
mod compress;
mod cork;
mod documents;
mod encode;
mod gnostic;
pub mod handle;
mod health;
pub mod incoming;
#[cfg(test)]
mod laws;
pub(crate) mod listen;
mod listing;
mod negotiate;
mod params;
pub mod path;
mod paths;
pub mod query;
mod resource;
mod server;
mod table;
mod tls;
mod watch;
pub(crate) mod websocket;

pub use crate::version::git_version;
pub use listen::{Config, Error, bind, serve};
pub use server::{Parts, Peer, Server, StaticDocument};
pub use tls::{Identity, subjects};
