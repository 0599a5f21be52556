//! The cache against a small model.
