//! What piles up on a node and is taken away: images that nobody uses, logs that grow.

pub(crate) mod images;
pub(crate) mod logs;
