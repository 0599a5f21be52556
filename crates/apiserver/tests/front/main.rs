//! The API server's front as clients meet it: over TLS, with real kubectl where it is installed, with golden answers,
//! and with malformed requests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is the test's message")]

mod endpoints;
mod extension_server;
mod extensions;
mod golden;
mod kubectl;
mod malformed;
mod nodes;
mod slow;
mod support;
mod watches;
