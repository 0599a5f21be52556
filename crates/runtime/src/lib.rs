//! The container runtime's contract and drivers.
