//! The pod network.
