//! Startup, liveness and readiness probes: when each is due and what its outcomes mean. Pure; [`run`] does the I/O.
//!
//! - Each probe has its own due time, and the actor sleeps until the earliest: there is no tick.
//! - A probe over the network that fails while its container is just coming up is tried again soon, in growing steps
//!   within the first period, without counting as a failure: a server that listens after 50 ms is ready after 100 ms,
//!   not after a whole period.

pub(crate) mod run;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

/// The three kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Probing {
    Startup,
    Liveness,
    Readiness,
}

impl Probing {
    /// As messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The probe of this kind, if the container has it.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

const EARLY: SignedDuration = SignedDuration::from_millis(50);

#[derive(Clone, Debug, Default)]
struct Track {
    next: Timestamp,
    /// Until when early tries are made; set by the first failure.
    early: Option<(Timestamp, SignedDuration)>,
    successes: i32,
    failures: i32,
    passing: bool,
    succeeded: bool,
}

/// What the outcome of a probe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: an early try that failed.
    Ignored,
    /// The outcome is counted.
    Counted,
    /// The container has failed so often that it is to be killed.
    Kill,
}

/// The probes of one pod, by container identifier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes(BTreeMap<(String, Probing), Track>);

impl Probes {
    /// Whether the startup probe has passed, or there is none.
    pub(crate) fn started(&self, container: &Container, id: &str) -> bool {
        container.startup_probe.is_none() || self.passing(id, Probing::Startup)
    }

    /// Whether the container counts as ready, as far as probes tell.
    pub(crate) fn ready(&self, container: &Container, id: &str) -> bool {
        let ready = container.readiness_probe.is_none() || self.passing(id, Probing::Readiness);
        ready && self.started(container, id)
    }

    fn passing(&self, id: &str, kind: Probing) -> bool {
        self.0.get(&(id.to_owned(), kind)).is_some_and(|track| track.passing)
    }

    /// Takes over what the API knows of a container that ran before this process: no pod flaps because its kubelet
    /// was restarted.
    pub(crate) fn seed(&mut self, id: &str, started: bool, ready: bool) {
        for (kind, passing) in [(Probing::Startup, started), (Probing::Readiness, ready)] {
            if passing {
                let track = Track { passing, succeeded: true, ..Track::default() };
                self.0.insert((id.to_owned(), kind), track);
            }
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(id, _), _| keep(id));
    }

    /// The probes of a running container and when each is due.
    pub(crate) fn next(
        &self,
        container: &Container,
        id: &str,
        started: Timestamp,
    ) -> Vec<(Probing, Timestamp)> {
        let kinds: &[Probing] = match self.started(container, id) {
            false => &[Probing::Startup],
            true => &[Probing::Liveness, Probing::Readiness],
        };
        let due = |kind: &Probing| {
            let probe = kind.of(container)?;
            let delay = SignedDuration::from_secs(probe.initial_delay_seconds.unwrap_or(0).into());
            let first = started.saturating_add(delay).unwrap_or(Timestamp::MAX);
            let track = self.0.get(&(id.to_owned(), *kind));
            Some((*kind, track.map_or(first, |track| track.next.max(first))))
        };
        kinds.iter().filter_map(due).collect()
    }

    /// Takes in an outcome.
    pub(crate) fn record(
        &mut self,
        container: &Container,
        id: &str,
        kind: Probing,
        ok: bool,
        now: Timestamp,
    ) -> Verdict {
        let Some(probe) = kind.of(container) else { return Verdict::Ignored };
        let (track, period) = (self.track(id, kind), period(probe));
        if ok {
            track.success(probe.success_threshold.unwrap_or(1), now, period);
            return Verdict::Counted;
        }
        let hasty = kind != Probing::Liveness && probe.exec.is_none() && !track.succeeded;
        if hasty && track.early_again(now, period) {
            return Verdict::Ignored;
        }
        track.next = later(now, period);
        track.successes = 0;
        track.failures = track.failures.saturating_add(1);
        if track.failures < probe.failure_threshold.unwrap_or(3) {
            return Verdict::Counted;
        }
        track.passing = false;
        if kind == Probing::Readiness { Verdict::Counted } else { Verdict::Kill }
    }
}

impl Probes {
    /// Takes note of a probe that could not be made: it is due again a period later, and nothing else changes.
    pub(crate) fn errored(&mut self, container: &Container, id: &str, kind: Probing, now: Timestamp) {
        let Some(probe) = kind.of(container) else { return };
        self.track(id, kind).next = later(now, period(probe));
    }

    fn track(&mut self, id: &str, kind: Probing) -> &mut Track {
        let new = || Track { passing: kind == Probing::Liveness, ..Track::default() };
        self.0.entry((id.to_owned(), kind)).or_insert_with(new)
    }
}

fn period(probe: &Probe) -> SignedDuration {
    SignedDuration::from_secs(probe.period_seconds.unwrap_or(10).max(1).into())
}

impl Track {
    fn success(&mut self, threshold: i32, now: Timestamp, period: SignedDuration) {
        self.succeeded = true;
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        self.passing |= self.successes >= threshold.max(1);
        self.next = later(now, period);
    }

    /// Plans an early try, if it still is early.
    fn early_again(&mut self, now: Timestamp, period: SignedDuration) -> bool {
        let (end, step) = self.early.unwrap_or((later(now, period), EARLY));
        let next = later(now, step);
        self.early = Some((end, step * 2));
        self.next = next.min(end);
        now < end
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::TCPSocketAction;

    fn container() -> Container {
        let probe = Probe {
            tcp_socket: Some(TCPSocketAction::default()),
            initial_delay_seconds: Some(5),
            failure_threshold: Some(2),
            ..Probe::default()
        };
        Container {
            readiness_probe: Some(probe.clone()),
            liveness_probe: Some(probe),
            ..Container::default()
        }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn early_failures_are_retried_soon_and_do_not_count() {
        let (container, mut probes) = (container(), Probes::default());
        let due = |probes: &Probes| probes.next(&container, "c", at(0))[1].1;
        assert_eq!(due(&probes), at(5000));
        let mut now = at(5000);
        let mut tries = 0;
        while probes.record(&container, "c", Probing::Readiness, false, now) == Verdict::Ignored {
            now = due(&probes);
            tries += 1;
        }
        assert!((7..12).contains(&tries), "{tries} tries");
        assert_eq!(now, at(15000));
        assert_eq!(due(&probes), at(25000));
        probes.record(&container, "c", Probing::Readiness, true, at(25000));
        assert!(probes.ready(&container, "c"));
        probes.record(&container, "c", Probing::Readiness, false, at(35000));
        assert!(probes.ready(&container, "c"));
        probes.record(&container, "c", Probing::Readiness, false, at(45000));
        assert!(!probes.ready(&container, "c"));
    }

    #[test]
    fn liveness_counts_at_once_and_kills_at_its_threshold() {
        let (container, mut probes) = (container(), Probes::default());
        assert_eq!(probes.record(&container, "c", Probing::Liveness, false, at(1)), Verdict::Counted);
        assert_eq!(probes.record(&container, "c", Probing::Liveness, false, at(2)), Verdict::Kill);
    }
}
