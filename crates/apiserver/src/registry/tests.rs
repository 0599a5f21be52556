//! The registry over the embedded store.
