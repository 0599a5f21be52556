//! Growing pauses between attempts, in the kubelet's numbers: 10 s, doubled up to 5 min, forgotten after twice that
//! without a failure. Pure: time is an argument.

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);

/// The pause after failures so far; fresh when there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    delay: Option<SignedDuration>,
    last: Timestamp,
}

impl Backoff {
    /// When the next attempt may be made after a failure at `failed`; `None`: at once.
    pub(crate) fn until(&self, failed: Timestamp) -> Option<Timestamp> {
        let delay = self.delay?;
        (!self.expired(failed)).then(|| failed.saturating_add(delay).unwrap_or(Timestamp::MAX))
    }

    /// Takes note of an attempt at `now` after a failure at `failed`: the next pause is twice as long.
    pub(crate) fn next(&mut self, failed: Timestamp, now: Timestamp) {
        self.delay = match self.delay {
            Some(delay) if !self.expired(failed) => Some((delay * 2).min(MAX)),
            _ => Some(FIRST),
        };
        self.last = now;
    }

    /// The pause, for messages.
    pub(crate) fn delay(&self) -> SignedDuration {
        self.delay.unwrap_or(FIRST)
    }

    fn expired(&self, failed: Timestamp) -> bool {
        failed.duration_since(self.last) > MAX * 2
    }
}

/// `10s`, `2m40s`, `5m0s`: as Go prints durations.
pub(crate) fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_restart_is_immediate_then_pauses_double_and_are_forgotten() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(at(0)), None);
        backoff.next(at(0), at(0));
        assert_eq!(backoff.until(at(1)), Some(at(11)));
        backoff.next(at(1), at(11));
        assert_eq!(backoff.until(at(12)), Some(at(32)));
        for _ in 0..9 {
            backoff.next(at(12), at(32));
        }
        assert_eq!(go_duration(backoff.delay()), "5m0s");
        assert_eq!(backoff.until(at(32 + 601)), None);
        backoff.next(at(32 + 601), at(32 + 601));
        assert_eq!(go_duration(backoff.delay()), "10s");
    }
}
