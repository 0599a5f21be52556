//! From the least to the most: of a size, or of a cost.

/// Both ends belong to it; sums and products stay at the highest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Range {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    /// Exactly this.
    pub const fn exactly(value: u64) -> Self {
        Self { min: value, max: value }
    }

    /// Up to this.
    pub const fn up_to(max: u64) -> Self {
        Self { min: 0, max }
    }

    /// One and the other.
    pub fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    /// The one for each of the other.
    pub fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// So much of it, rounded up.
    pub fn part(self, factor: f64) -> Self {
        // The conversion stays at the highest number too.
        let part = |value: u64| (value as f64 * factor).ceil() as u64;
        Self { min: part(self.min), max: if self.max == u64::MAX { u64::MAX } else { part(self.max) } }
    }

    /// One or the other.
    pub fn or(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}
