//! Cron schedules: five fields, a name as `@daily`, or `@every 90m`, read as Kubernetes reads them. Pure.
//!
//! - Fields take `*`, `?`, numbers, names of months and days, ranges, lists and steps. When both the day of the month and
//!   the day of the week are given, either will do.
//! - Where the clock is put forward, times in the gap do not come; where it is put back, they come twice.

use std::ops::RangeInclusive;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A schedule that comes never (30 February) is given up after so many days.
const DAYS_MAX: usize = 366 * 9;

/// When to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// At these times of the clock.
    Fields(Fields),
    /// In even steps from the last time.
    Every(SignedDuration),
}

/// Minutes, hours and days as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of days are restricted: either will do.
    either_day: bool,
}

impl Schedule {
    /// Reads a schedule; the error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(step) = text.trim().strip_prefix("@every ") {
            let step: SignedDuration =
                step.trim().parse().map_err(|error| format!("failed to parse duration {text}: {error}"))?;
            return Ok(Self::Every(SignedDuration::from_secs(step.as_secs().max(1))));
        }
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: {text:?}", fields.len()));
        };
        let mut weekday = field(weekdays, 0..=7, &DAYS)?;
        // Sunday is 0 and 7.
        weekday |= (weekday >> 7) & 1;
        let open = |text: &str| text.starts_with('*') || text.starts_with('?');
        Ok(Self::Fields(Fields {
            minutes: field(minutes, 0..=59, &[])?,
            hours: field(hours, 0..=23, &[])?,
            days: field(days, 1..=31, &[])?,
            months: field(months, 1..=12, &MONTHS)?,
            weekdays: weekday,
            either_day: !open(days) && !open(weekdays),
        }))
    }

    /// The first time after a moment. `last` is the last time there was.
    pub(super) fn next(&self, last: Timestamp, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Fields(fields) => fields.next(after, zone),
            Self::Every(step) => {
                let past = self.last(last, after, zone).unwrap_or(last);
                past.checked_add(*step).ok()
            }
        }
    }

    /// The last time after one moment and not after another.
    pub(super) fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Fields(fields) => fields.last(until, zone).filter(|at| *at > after),
            Self::Every(step) => {
                let steps = until.duration_since(after).as_secs() / step.as_secs();
                let passed = SignedDuration::from_secs(steps.checked_mul(step.as_secs())?);
                (steps > 0).then(|| after.checked_add(passed).ok())?
            }
        }
    }
}

impl Fields {
    fn fits_day(&self, at: DateTime) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        let days = if self.either_day { day || weekday } else { day && weekday };
        has(self.months, at.month()) && days
    }

    /// The first time after a moment. Goes on in real time, so that a clock that is moved is seen.
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = minute_of(after)?.checked_add(1.minute()).ok()?;
        let mut days = 0;
        while days < DAYS_MAX {
            let clock = zone.to_datetime(at);
            at = if !self.fits_day(clock) {
                days += 1;
                let tomorrow = clock.checked_add(1.day()).ok()?.with().hour(0).minute(0).build().ok()?;
                zone.to_timestamp(tomorrow).ok()?.max(at.checked_add(1.minute()).ok()?)
            } else if !has(self.hours, clock.hour()) {
                at.checked_add((60 - i64::from(clock.minute())).minutes()).ok()?
            } else if !has(self.minutes, clock.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                return Some(at);
            };
        }
        None
    }

    /// The last time at or before a moment.
    fn last(&self, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = minute_of(until)?;
        let mut days = 0;
        while days < DAYS_MAX {
            let clock = zone.to_datetime(at);
            at = if !self.fits_day(clock) {
                days += 1;
                let today = clock.with().hour(0).minute(0).build().ok()?;
                zone.to_timestamp(today).ok()?.min(at).checked_sub(1.minute()).ok()?
            } else if !has(self.hours, clock.hour()) {
                at.checked_sub((i64::from(clock.minute()) + 1).minutes()).ok()?
            } else if !has(self.minutes, clock.minute()) {
                at.checked_sub(1.minute()).ok()?
            } else {
                return Some(at);
            };
        }
        None
    }
}

/// The start of a moment's minute.
fn minute_of(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(at.as_second().div_euclid(60) * 60).ok()
}

fn has(bits: u64, at: i8) -> bool {
    u32::try_from(at).is_ok_and(|at| bits & (1 << at) != 0)
}

/// The bits of one field.
fn field(text: &str, range: RangeInclusive<u32>, names: &[&str]) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, step.parse().map_err(|_| format!("bad step in {part:?}"))?),
            None => (part, 1),
        };
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part:?}"));
        }
        let number = |text: &str| number(text, &range, names);
        let (first, last) = match span.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None if span == "*" || span == "?" => (*range.start(), *range.end()),
            // A step from a number on goes to the end.
            None if part.contains('/') => (number(span)?, *range.end()),
            None => (number(span)?, number(span)?),
        };
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part:?}"));
        }
        (first..=last).step_by(step).for_each(|at| bits |= 1 << at);
    }
    Ok(bits)
}

fn number(text: &str, range: &RangeInclusive<u32>, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    let named = names.iter().position(|name| *name == lower).and_then(|at| u32::try_from(at).ok());
    let value = named.map(|at| at + range.start()).or_else(|| text.parse().ok());
    value.filter(|value| range.contains(value)).ok_or_else(|| format!("{text:?} is not within {range:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(schedule: &str, after: &str) -> String {
        Schedule::parse(schedule).unwrap().next(at(after), at(after), &TimeZone::UTC).unwrap().to_string()
    }

    #[test]
    fn times_come_as_written() {
        assert_eq!(next("*/15 * * * *", "2026-01-01T00:07:30Z"), "2026-01-01T00:15:00Z");
        assert_eq!(next("0 0 29 feb *", "2026-01-01T00:00:00Z"), "2028-02-29T00:00:00Z");
        assert_eq!(next("30 8-10/2 * * mon-fri", "2026-01-02T10:30:00Z"), "2026-01-05T08:30:00Z");
        assert_eq!(next("@hourly", "2026-12-31T23:00:00Z"), "2027-01-01T00:00:00Z");
        // The 13th, or a Friday.
        assert_eq!(next("0 0 13 * fri", "2026-01-10T00:00:00Z"), "2026-01-13T00:00:00Z");
        assert_eq!(next("0 0 13 * fri", "2026-01-13T00:00:00Z"), "2026-01-16T00:00:00Z");
        assert_eq!(
            Schedule::parse("0 0 30 2 *").unwrap().next(
                Timestamp::UNIX_EPOCH,
                at("2026-01-01T00:00:00Z"),
                &TimeZone::UTC
            ),
            None
        );
    }

    #[test]
    fn the_last_time_is_found_without_counting_up() {
        let last = |schedule: &str, until: &str| {
            Schedule::parse(schedule)
                .unwrap()
                .last(Timestamp::MIN, at(until), &TimeZone::UTC)
                .unwrap()
                .to_string()
        };
        assert_eq!(last("*/15 * * * *", "2026-01-01T00:15:00Z"), "2026-01-01T00:15:00Z");
        assert_eq!(last("0 12 * * *", "2026-01-01T11:59:59Z"), "2025-12-31T12:00:00Z");
        assert_eq!(last("59 23 31 12 *", "2026-06-01T00:00:00Z"), "2025-12-31T23:59:00Z");
    }

    #[test]
    fn clocks_that_are_moved_skip_and_repeat() {
        // As Central Europe's: forward at 01:00 UTC on the last Sunday of March, back on the last of October.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let times = |schedule: &str, from: &str, count: usize| -> Vec<String> {
            let schedule = Schedule::parse(schedule).unwrap();
            let mut now = at(from);
            let step = |_| {
                now = schedule.next(now, now, &zone).unwrap();
                assert_eq!(schedule.last(Timestamp::MIN, now, &zone), Some(now));
                now.to_string()
            };
            (0..count).map(step).collect()
        };
        // 02:30 is in the gap on the 29th.
        let spring = ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"];
        assert_eq!(times("30 2 * * *", "2026-03-28T00:00:00Z", 2), spring);
        // And comes twice on 25 October.
        let autumn = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(times("30 2 * * *", "2026-10-25T00:00:00Z", 3), autumn);
        assert_eq!(times("*/30 * * * *", "2026-10-25T00:40:00Z", 2)[1], "2026-10-25T01:30:00Z");
    }

    #[test]
    fn even_steps_count_from_the_last_time() {
        let schedule = Schedule::parse("@every 1h30m").unwrap();
        let (last, now) = (at("2026-01-01T00:00:10Z"), at("2026-01-01T04:00:00Z"));
        assert_eq!(schedule.last(last, now, &TimeZone::UTC), Some(at("2026-01-01T03:00:10Z")));
        assert_eq!(schedule.next(last, now, &TimeZone::UTC), Some(at("2026-01-01T04:30:10Z")));
        assert_eq!(schedule.last(last, at("2026-01-01T01:00:00Z"), &TimeZone::UTC), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in ["* * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "* * * foo *", "a b c d e"] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
