//! Cron schedules: five fields or a name as `@daily`, read as Kubernetes reads them. Pure.
//!
//! Fields take `*`, `?`, numbers, names of months and days, ranges, lists and steps. When both the day of the month and
//! the day of the week are given, either will do.

use std::ops::RangeInclusive;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A schedule that comes never (30 February) is given up after so many days.
const DAYS_MAX: usize = 366 * 9;

/// When to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
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
        Ok(Self {
            minutes: field(minutes, 0..=59, &[])?,
            hours: field(hours, 0..=23, &[])?,
            days: field(days, 1..=31, &[])?,
            months: field(months, 1..=12, &MONTHS)?,
            weekdays: weekday,
            either_day: !open(days) && !open(weekdays),
        })
    }

    fn fits_day(&self, at: DateTime) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        let days = if self.either_day { day || weekday } else { day && weekday };
        has(self.months, at.month()) && days
    }

    /// The first time after a moment.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = zone.to_datetime(after);
        let start = start.checked_add(1.minute()).ok()?.with().second(0).subsec_nanosecond(0).build().ok()?;
        let mut day = start;
        for _ in 0..DAYS_MAX {
            if self.fits_day(day)
                && let Some((hour, minute)) = self.first(day.hour(), day.minute())
            {
                return moment(day, hour, minute, zone).filter(|at| *at > after);
            }
            day = day.checked_add(1.day()).ok()?.with().hour(0).minute(0).build().ok()?;
        }
        None
    }

    /// The last time at or before a moment.
    pub(super) fn last(&self, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut day = zone.to_datetime(until);
        for _ in 0..DAYS_MAX {
            if self.fits_day(day)
                && let Some((hour, minute)) = self.latest(day.hour(), day.minute())
            {
                return moment(day, hour, minute, zone).filter(|at| *at <= until);
            }
            day = day.checked_sub(1.day()).ok()?.with().hour(23).minute(59).build().ok()?;
        }
        None
    }

    /// The first time of day from one on.
    fn first(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        let minute_from = |from: i8| (from..60).find(|minute| has(self.minutes, *minute));
        let now = if has(self.hours, hour) { minute_from(minute) } else { None };
        now.map(|minute| (hour, minute))
            .or_else(|| Some(((hour + 1..24).find(|hour| has(self.hours, *hour))?, minute_from(0)?)))
    }

    /// The last time of day up to one.
    fn latest(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        let minute_to = |to: i8| (0..=to).rev().find(|minute| has(self.minutes, *minute));
        let now = if has(self.hours, hour) { minute_to(minute) } else { None };
        now.map(|minute| (hour, minute))
            .or_else(|| Some(((0..hour).rev().find(|hour| has(self.hours, *hour))?, minute_to(59)?)))
    }
}

fn moment(day: DateTime, hour: i8, minute: i8, zone: &TimeZone) -> Option<Timestamp> {
    let at = day.with().hour(hour).minute(minute).second(0).subsec_nanosecond(0).build().ok()?;
    zone.to_timestamp(at).ok()
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
        Schedule::parse(schedule).unwrap().next(at(after), &TimeZone::UTC).unwrap().to_string()
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
            Schedule::parse("0 0 30 2 *").unwrap().next(at("2026-01-01T00:00:00Z"), &TimeZone::UTC),
            None
        );
    }

    #[test]
    fn the_last_time_is_found_without_counting_up() {
        let last = |schedule: &str, until: &str| {
            Schedule::parse(schedule).unwrap().last(at(until), &TimeZone::UTC).unwrap().to_string()
        };
        assert_eq!(last("*/15 * * * *", "2026-01-01T00:15:00Z"), "2026-01-01T00:15:00Z");
        assert_eq!(last("0 12 * * *", "2026-01-01T11:59:59Z"), "2025-12-31T12:00:00Z");
        assert_eq!(last("59 23 31 12 *", "2026-06-01T00:00:00Z"), "2025-12-31T23:59:00Z");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in ["* * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "* * * foo *", "a b c d e"] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
