//! The API server's front as clients meet it: over TLS, with real kubectl where it is installed, with golden answers,
//! and with malformed requests.

mod golden;
mod kubectl;
mod malformed;
mod nodes;
mod support;
mod watches;
