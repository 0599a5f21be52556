//! A span of time, `1s` or `500ms..2s`, of which each pod gets its own point, always the same one.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

/// How long something takes: between two times, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    from: Duration,
    to: Duration,
}

/// A text that is no delay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time such as 1s, 500ms or 1s..3s")]
pub struct ParseDelayError(String);

impl Delay {
    /// Always the same time.
    pub const fn of(time: Duration) -> Self {
        Self { from: time, to: time }
    }

    /// The time of one thing, by its identity.
    pub(crate) fn pick(&self, identity: &str) -> Duration {
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        let share = f64::from((hasher.finish() >> 32) as u32) / f64::from(u32::MAX);
        self.from + (self.to - self.from).mul_f64(share)
    }
}

impl FromStr for Delay {
    type Err = ParseDelayError;

    fn from_str(text: &str) -> Result<Self, ParseDelayError> {
        let time = |text: &str| match text.trim() {
            "0" => Some(Duration::ZERO),
            text => text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok()),
        };
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (time(from), time(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Self { from, to }),
            _ => Err(ParseDelayError(text.to_owned())),
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, "{}ms", self.from.as_millis()),
            false => write!(f, "{}ms..{}ms", self.from.as_millis(), self.to.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_each_identity_keeps_its_point() {
        let delay: Delay = "500ms..2s".parse().unwrap();
        let points: Vec<Duration> = (0..50).map(|i| delay.pick(&format!("uid-{i}"))).collect();
        assert!(points.iter().all(|p| (Duration::from_millis(500)..=Duration::from_secs(2)).contains(p)));
        assert!(points.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(delay.pick("uid-7"), points[7]);
        assert_eq!("1s".parse::<Delay>().unwrap().pick("x"), Duration::from_secs(1));
        assert_eq!("0".parse::<Delay>().unwrap(), Delay::default());
        for bad in ["", "x", "2s..1s", "-1s"] {
            assert!(bad.parse::<Delay>().is_err(), "{bad}");
        }
    }
}
