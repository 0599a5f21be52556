//! Percentiles of what was measured, exact: every sample is kept.

use std::time::Duration;

/// Samples in order of size.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Sorts them.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The smallest sample that at least this share (0 to 1) of all do not exceed; zero without samples.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Half are as fast as this.
    pub fn p50(&self) -> Duration {
        self.percentile(0.5)
    }

    /// One in a hundred is slower than this.
    pub fn p99(&self) -> Duration {
        self.percentile(0.99)
    }

    /// `p50 1.20 ms, p99 3.40 ms`.
    pub fn text(&self) -> String {
        format!("p50 {}, p99 {}", ms(self.p50()), ms(self.p99()))
    }
}

/// As `0.42 ms`, `17.3 ms` or `1230 ms`.
pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples = Samples::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(samples.p50(), Duration::from_millis(100));
        assert_eq!(samples.p99(), Duration::from_millis(198));
        assert_eq!(Samples::new(vec![Duration::from_millis(7)]).p99(), Duration::from_millis(7));
        assert_eq!(Samples::new(Vec::new()).p50(), Duration::ZERO);
    }
}
