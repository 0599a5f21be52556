//! End to end, as a user.
