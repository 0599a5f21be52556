//! The API server: HTTP, who asks (authentication), may they (authorization), should it be so (admission), the
//! registry of objects, the watch cache, and the store behind them.

pub mod admission;
pub mod aggregate;
pub mod allocate;
pub mod auth;
pub mod bootstrap;
pub mod cache;
pub mod custom;
pub mod hook;
pub mod http;
pub mod kinds;
pub mod local;
pub mod metrics;
pub mod node_metrics;
pub mod node_proxy;
pub mod pki;
pub mod registry;
pub mod served;
mod start;
pub mod strategy;
mod version;
pub mod warning;

pub use start::{ApiServer, Config, Error, Identities};
