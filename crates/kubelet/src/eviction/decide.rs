//! From readings to conditions and to what is to be done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Amount, Pressure, Signal};
use crate::configuration::Settings;

/// What a hard threshold leaves a pod, in seconds: a moment.
const AT_ONCE: i64 = 1;

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) available: u64,
    pub(crate) capacity: u64,
}

pub(crate) type Readings = BTreeMap<Signal, Reading>;

/// What earlier looks left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Since when a soft threshold is met.
    soft: BTreeMap<Signal, Timestamp>,
    /// When a pressure was last seen.
    seen: BTreeMap<Pressure, Timestamp>,
    /// Signals that were acted upon, until what is to be won back at least is there.
    reclaiming: BTreeSet<Signal>,
}

/// A threshold that is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) signal: Signal,
    pub(crate) available: u64,
    /// The threshold, as messages write it.
    pub(crate) threshold: String,
    /// Seconds that a pod gets to end.
    pub(crate) grace: i64,
}

/// What a look came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) pressures: BTreeSet<Pressure>,
    /// What is short now, that to be acted upon first: memory before disk, hard before soft.
    pub(crate) act: Option<Met>,
}

/// Looks at readings.
pub(crate) fn decide(
    settings: &Settings,
    memory: &mut Memory,
    readings: &Readings,
    now: Timestamp,
) -> Decision {
    let hard = met(settings, &settings.eviction_hard, memory, readings);
    let soft = met(settings, &settings.eviction_soft, memory, readings);
    memory.soft.retain(|signal, _| soft.iter().any(|met| met.signal == *signal));
    for met in &soft {
        memory.soft.entry(met.signal).or_insert(now);
    }
    let due: Vec<Met> =
        soft.into_iter().filter(|met| long_enough(settings, memory, met.signal, now)).collect();
    memory.reclaiming = hard.iter().chain(&due).map(|met| met.signal).collect();
    for met in hard.iter().chain(&due) {
        memory.seen.insert(met.signal.pressure(), now);
    }
    // A pressure that comes and goes must not be a taint that comes and goes.
    let recent = |at: &Timestamp| now.duration_since(*at) < settings.eviction_pressure_transition_period;
    memory.seen.retain(|_, at| *at == now || recent(at));
    let mut due = due;
    due.iter_mut().for_each(|met| met.grace = settings.eviction_max_pod_grace_period.max(AT_ONCE));
    let mut act: Vec<Met> = hard.into_iter().chain(due).collect();
    act.sort_by_key(|met| met.signal);
    Decision { pressures: memory.seen.keys().copied().collect(), act: act.into_iter().next() }
}

fn met(
    settings: &Settings,
    thresholds: &super::Thresholds,
    memory: &Memory,
    readings: &Readings,
) -> Vec<Met> {
    let one = |(signal, amount): (Signal, &Amount)| {
        let reading = readings.get(&signal)?;
        let least = amount.of(reading.capacity);
        let more = match memory.reclaiming.contains(&signal) {
            true => reclaim(settings, signal, reading.capacity),
            false => 0,
        };
        (reading.available < least.saturating_add(more)).then(|| Met {
            signal,
            available: reading.available,
            threshold: amount.written(signal, reading.capacity),
            grace: AT_ONCE,
        })
    };
    thresholds.iter().filter_map(one).collect()
}

/// How much beyond its threshold is to be won back.
fn reclaim(settings: &Settings, signal: Signal, capacity: u64) -> u64 {
    let text = settings.eviction_minimum_reclaim.get(signal.name());
    text.and_then(|text| Amount::parse(text)).map_or(0, |amount| amount.of(capacity))
}

fn long_enough(settings: &Settings, memory: &Memory, signal: Signal, now: Timestamp) -> bool {
    let grace =
        settings.eviction_soft_grace_period.get(signal.name()).copied().unwrap_or(SignedDuration::ZERO);
    memory.soft.get(&signal).is_some_and(|since| now.duration_since(*since) >= grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let head = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n";
        Settings::parse(format!("{head}{text}").as_bytes()).unwrap().0
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn memory_of(available: u64) -> Readings {
        [(Signal::Memory, Reading { available, capacity: 1000 << 20 })].into()
    }

    #[test]
    fn a_hard_threshold_is_acted_upon_at_once_and_told_for_a_while() {
        let settings = settings("evictionPressureTransitionPeriod: 30s\n");
        let mut memory = Memory::default();
        assert_eq!(decide(&settings, &mut memory, &memory_of(200 << 20), at(0)), Decision::default());
        let short = decide(&settings, &mut memory, &memory_of(50 << 20), at(10));
        let met = short.act.unwrap();
        assert_eq!((met.signal, met.threshold.as_str(), met.grace), (Signal::Memory, "100Mi", 1));
        assert_eq!(short.pressures, [Pressure::Memory].into());
        let better = decide(&settings, &mut memory, &memory_of(200 << 20), at(20));
        assert_eq!((better.act, better.pressures.len()), (None, 1));
        assert!(decide(&settings, &mut memory, &memory_of(200 << 20), at(40)).pressures.is_empty());
    }

    #[test]
    fn a_soft_threshold_waits_for_its_grace_period() {
        let settings = settings(
            "evictionSoft: {memory.available: 50%}\nevictionSoftGracePeriod: {memory.available: 1m}\n\
             evictionMaxPodGracePeriod: 7\n",
        );
        let mut memory = Memory::default();
        let half = memory_of(400 << 20);
        assert_eq!(decide(&settings, &mut memory, &half, at(0)), Decision::default());
        assert_eq!(decide(&settings, &mut memory, &memory_of(600 << 20), at(50)), Decision::default());
        assert_eq!(decide(&settings, &mut memory, &half, at(60)).act, None, "it was not met all the time");
        assert_eq!(decide(&settings, &mut memory, &half, at(120)).act.unwrap().grace, 7);
    }

    #[test]
    fn what_is_to_be_won_back_keeps_it_going() {
        let settings = settings("evictionMinimumReclaim: {memory.available: 50Mi}\n");
        let mut memory = Memory::default();
        assert!(decide(&settings, &mut memory, &memory_of(120 << 20), at(0)).act.is_none());
        assert!(decide(&settings, &mut memory, &memory_of(90 << 20), at(1)).act.is_some());
        assert!(decide(&settings, &mut memory, &memory_of(120 << 20), at(2)).act.is_some());
        assert!(decide(&settings, &mut memory, &memory_of(160 << 20), at(3)).act.is_none());
    }

    #[test]
    fn memory_comes_first() {
        let mut readings = memory_of(1);
        readings.insert(Signal::NodeDisk, Reading { available: 1, capacity: 100 });
        let decision = decide(&Settings::default(), &mut Memory::default(), &readings, at(0));
        assert_eq!(decision.act.unwrap().signal, Signal::Memory);
        assert_eq!(decision.pressures.len(), 2);
    }
}
