//! The form of a cron schedule, judged as Kubernetes' parser does and in its words.

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// One of the five fields: its bounds and the names it takes.
struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
    /// What the first name stands for.
    first: u64,
}

const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[], first: 0 },
    Bounds { min: 0, max: 23, names: &[], first: 0 },
    Bounds { min: 1, max: 31, names: &[], first: 0 },
    Bounds { min: 1, max: 12, names: &MONTHS, first: 1 },
    Bounds { min: 0, max: 6, names: &DAYS, first: 0 },
];

/// What is wrong with a schedule.
pub fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        rest = text.split_once(' ').map_or("", |(_, rest)| rest).trim();
    }
    if rest.is_empty() {
        return Err("empty spec string".into());
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let given = rest.split_whitespace().count();
    if given != FIELDS.len() {
        let fields: Vec<&str> = rest.split_whitespace().collect();
        return Err(format!("expected exactly 5 fields, found {given}: [{}]", fields.join(" ")));
    }
    rest.split_whitespace().zip(&FIELDS).try_for_each(|(text, bounds)| field(text, bounds))
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    let Some(duration) = text.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    self::duration(duration).map_err(|why| format!("failed to parse duration {text}: time: {why}"))
}

/// A duration as Go writes it: `1h30m`, `1.5s`.
fn duration(text: &str) -> Result<(), String> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    let invalid = || format!("invalid duration {text:?}");
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let numeral = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !numeral(c)).unwrap_or(rest.len()));
        let (unit, next) = tail.split_at(tail.find(numeral).unwrap_or(tail.len()));
        let right = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() < 2;
        match unit {
            _ if !right => return Err(invalid()),
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = next,
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        }
    }
    Ok(())
}

fn field(text: &str, bounds: &Bounds) -> Result<(), String> {
    text.split(',').filter(|part| !part.is_empty()).try_for_each(|part| range(part, bounds))
}

fn range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let mut halves = text.split('/');
    let (span, step) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(format!("too many slashes: {text}"));
    }
    let mut ends = span.split('-');
    let (low, high) = (ends.next().unwrap_or_default(), ends.next());
    let open = matches!(low, "*" | "?");
    let (start, end) = match (open, high) {
        (true, _) => (bounds.min, bounds.max),
        (false, _) if ends.next().is_some() => return Err(format!("too many hyphens: {text}")),
        (false, Some(high)) => (number(low, bounds)?, number(high, bounds)?),
        (false, None) => {
            let low = number(low, bounds)?;
            (low, if step.is_some() { bounds.max } else { low })
        }
    };
    let step = step.map_or(Ok(1), plain)?;
    within(text, bounds, start, end, step)
}

fn within(text: &str, bounds: &Bounds, start: u64, end: u64, step: u64) -> Result<(), String> {
    let Bounds { min, max, .. } = bounds;
    if start < *min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > *max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number(text: &str, bounds: &Bounds) -> Result<u64, String> {
    match bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(at) => Ok(at as u64 + bounds.first),
        None => plain(text),
    }
}

fn plain(text: &str) -> Result<u64, String> {
    let number: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_durations() {
        for right in ["1h30m", "1.5s", "0", "90s", "-5m"] {
            assert_eq!(check(&format!("@every {right}")), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("5x", r#"unknown unit "x" in duration "5x""#),
            ("5", r#"missing unit in duration "5""#),
            ("1h5", r#"missing unit in duration "1h5""#),
            ("", r#"invalid duration """#),
            ("m", r#"invalid duration "m""#),
            (".s", r#"invalid duration ".s""#),
            ("1.2.3s", r#"invalid duration "1.2.3s""#),
        ] {
            let told = check(&format!("@every {wrong}")).unwrap_err();
            assert_eq!(told, format!("failed to parse duration @every {wrong}: time: {why}"));
        }
    }
}
