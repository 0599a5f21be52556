//! The container runtime's contract and drivers.

pub mod containerd;
