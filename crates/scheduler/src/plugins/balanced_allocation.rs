//! NodeResourcesBalancedAllocation: a node whose CPU and memory would be taken evenly is preferred.

use super::{Scale, Score, resources_fit};

/// The score: 100 less the spread of the shares.
pub const SCORE: Score = Score {
    name: "NodeResourcesBalancedAllocation",
    weight: 1,
    points: |pod, node| {
        let [cpu, memory] = resources_fit::shares(pod, node);
        // The standard deviation of two values is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * 100.0) as i64
    },
    scale: Scale::Kept,
};
