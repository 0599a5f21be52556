//! Points in time and durations: their texts, as RFC 3339 and Go write them, and their parts.

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use super::operators::text;
use crate::error::EvalError;
use crate::value::{Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("timestamp", to_timestamp),
    ("duration", to_duration),
    ("getFullYear", |args| part(args, |at| i64::from(at.year()))),
    ("getMonth", |args| part(args, |at| i64::from(at.month()) - 1)),
    ("getDayOfYear", |args| part(args, |at| i64::from(at.day_of_year()) - 1)),
    ("getDayOfMonth", |args| part(args, |at| i64::from(at.day()) - 1)),
    ("getDate", |args| part(args, |at| i64::from(at.day()))),
    ("getDayOfWeek", |args| part(args, |at| i64::from(at.weekday().to_sunday_zero_offset()))),
    ("getHours", |args| span(args, HOUR).unwrap_or_else(|| part(args, |at| i64::from(at.hour())))),
    ("getMinutes", |args| span(args, MINUTE).unwrap_or_else(|| part(args, |at| i64::from(at.minute())))),
    ("getSeconds", |args| span(args, SECOND).unwrap_or_else(|| part(args, |at| i64::from(at.second())))),
    ("getMilliseconds", milliseconds),
];

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1000 * MILLISECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

fn overflow() -> EvalError {
    EvalError::failed("timestamp overflow")
}

/// A time later by so many nanoseconds.
pub fn shifted<'a>(at: Timestamp, nanos: i64) -> Result<'a> {
    let moved = at.as_nanosecond() + i128::from(nanos);
    let moved = Timestamp::from_nanosecond(moved).ok().filter(in_range);
    moved.map(Value::Timestamp).ok_or_else(overflow)
}

/// From year 1 to 9999.
fn in_range(at: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&at.as_second())
}

/// `2024-01-02T03:04:05.678Z`
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let time = text.get(10..11)?;
    if !matches!(time, "T" | "t") {
        return None;
    }
    text.parse().ok().filter(in_range)
}

/// `2024-01-02`
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let date: Date = text.parse().ok()?;
    (text.len() == 10).then(|| date.to_zoned(TimeZone::UTC).ok()).flatten().map(|zoned| zoned.timestamp())
}

/// RFC 3339 with as many digits as it needs.
pub fn print_timestamp(at: Timestamp) -> String {
    at.to_string()
}

/// Nanoseconds of a text as `1h30m0.5s`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        total = total.checked_add(amount(number, unit)?)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn amount(number: &str, unit: &str) -> Option<i128> {
    let unit = i128::from(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    });
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(whole * unit + fraction * unit / scale)
}

/// Seconds with a fraction, as CEL's `string()` prints durations.
pub fn print_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, fraction) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{whole}s");
    }
    let digits = format!("{fraction:09}");
    format!("{sign}{whole}.{}s", digits.trim_end_matches('0'))
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(value @ Value::Timestamp(_)) => Ok(value.clone()),
        Some(Value::Int(seconds)) => {
            let at = Timestamp::from_second(*seconds).ok().filter(in_range);
            at.map(Value::Timestamp).ok_or_else(overflow)
        }
        Some(Value::String(text)) => {
            let wrong =
                || EvalError::failed("type conversion error from 'string' to 'google.protobuf.Timestamp'");
            parse_timestamp(text).map(Value::Timestamp).ok_or_else(wrong)
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args.first() {
        Some(value @ Value::Duration(_)) => Ok(value.clone()),
        Some(Value::Int(nanos)) => Ok(Value::Duration(*nanos)),
        Some(Value::String(text)) => {
            let wrong =
                || EvalError::failed("type conversion error from 'string' to 'google.protobuf.Duration'");
            parse_duration(text).map(Value::Duration).ok_or_else(wrong)
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A part of a time, in UTC or the zone that is named.
fn part<'a>(args: &[Value<'a>], of: fn(&Zoned) -> i64) -> Result<'a> {
    let Some(Value::Timestamp(at)) = args.first() else { return Err(EvalError::no_such_overload()) };
    let zone = match args.len() {
        1 => TimeZone::UTC,
        _ => zone(text(args, 1)?)?,
    };
    Ok(Value::Int(of(&at.to_zoned(zone))))
}

/// `Europe/Berlin`, or an offset as `+02:00`.
fn zone(name: &str) -> std::result::Result<TimeZone, EvalError> {
    let unknown = || EvalError::failed(format!("unknown time zone {name}"));
    if matches!(name, "" | "UTC" | "Z") {
        return Ok(TimeZone::UTC);
    }
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let hours: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let minutes = if name.starts_with('-') { -minutes } else { minutes };
    let seconds = hours.checked_mul(3600).and_then(|hours| hours.checked_add(minutes.checked_mul(60)?));
    let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
    offset.map(TimeZone::fixed).ok_or_else(unknown)
}

/// How often a unit is in a duration; `None` if that is not asked.
fn span<'a>(args: &[Value<'a>], unit: i64) -> Option<Result<'a>> {
    match args {
        [Value::Duration(nanos)] => Some(Ok(Value::Int(nanos / unit))),
        _ => None,
    }
}

fn milliseconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / MILLISECOND)),
        _ => part(args, |at| i64::from(at.millisecond())),
    }
}
