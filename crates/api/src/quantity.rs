//! `resource.Quantity`: an exact decimal with a suffix, as `500m`, `1.5Gi`, `2e3`.
//!
//! - A value is a count of nano-units in an `i128`; Kubernetes caps values at 2⁶³−1 units and rounds finer digits up.
//! - The text is canonical: the largest suffix without a fraction, in the family the value was written in.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Neg, Sub};
use std::str::FromStr;

/// Nano-units in one unit.
const UNIT: i128 = 1_000_000_000;
const MAX: i128 = (i64::MAX as i128) * UNIT;

/// An amount. Equality and order are those of the amount, whatever its suffix.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Family of suffixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e3`, `e6` …
    DecimalExponent,
}

/// A text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not even its outline fits.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number has two dots, or none of its digits.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Whole units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * UNIT, format }
    }

    /// Thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * (UNIT / 1000), format: Format::DecimalSi }
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        scaled(self.nanos, UNIT)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        scaled(self.nanos, UNIT / 1000)
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// The family its text is in.
    pub fn format(&self) -> Format {
        self.format
    }

    fn with(self, other: Self, nanos: i128) -> Self {
        // An empty sum takes the family of what is put to it.
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: nanos.clamp(-MAX, MAX), format }
    }
}

fn scaled(nanos: i128, unit: i128) -> i64 {
    let away = if nanos < 0 { nanos - (unit - 1) } else { nanos + (unit - 1) };
    let value = away / unit;
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Whether a text is certainly canonical already: one to three digits with a common suffix. Spares most values a parse.
pub fn is_plainly_canonical(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let suffix = text.get(digits..).unwrap_or_default();
    (1..=3).contains(&digits)
        && !text.starts_with('0')
        && matches!(suffix, "" | "m" | "Ki" | "Mi" | "Gi" | "Ti")
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = unsigned.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() || !is_suffix_outline(suffix) {
            return Err(QuantityError::Format);
        }
        let (scale, format) = scale(suffix).ok_or(QuantityError::Suffix)?;
        let nanos = magnitude(number, scale)?.min(MAX);
        // Below one unit a binary suffix would have to round.
        let format = if format == Format::BinarySi && nanos < UNIT { Format::DecimalSi } else { format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

fn is_suffix_outline(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    digits.bytes().all(|b| b.is_ascii_digit())
}

/// What a number is multiplied by: a power of ten, or of 1024.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Kibi(u32),
}

fn scale(suffix: &str) -> Option<(Scale, Format)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [(&str, i32); 10] = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Ten(*power), Format::DecimalSi));
    }
    if let Some(power) = (1..).zip(BINARY).find_map(|(power, name)| (name == suffix).then_some(power)) {
        return Some((Scale::Kibi(power), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i64>().ok()?;
    let exponent = i32::try_from(exponent.clamp(-1000, 1000)).ok()?;
    Some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// Nano-units of an unsigned decimal times a scale; finer digits round up, larger values saturate.
fn magnitude(number: &str, scale: Scale) -> Result<i128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(QuantityError::Number);
    }
    // As many digits as are exact in an i128 with room for the factor; what follows only matters for rounding up.
    let (ten, factor, limit) = match scale {
        Scale::Ten(power) => (power, 1, 10_i128.pow(28)),
        Scale::Kibi(power) => (0, 1024_i128.pow(power), 10_i128.pow(18)),
    };
    let fraction = fraction.trim_end_matches('0');
    let mut digits: i128 = 0;
    let mut exponent = ten + 9;
    let mut rest = false;
    let places = whole.bytes().map(|b| (b, false)).chain(fraction.bytes().map(|b| (b, true)));
    for (byte, after_dot) in places {
        if digits < limit {
            digits = digits * 10 + i128::from(byte - b'0');
            exponent -= i32::from(after_dot);
        } else {
            rest |= byte != b'0';
            exponent += i32::from(!after_dot);
        }
    }
    let product = digits.saturating_mul(factor);
    Ok(shift(product, exponent, rest))
}

/// `product * 10^exponent`, rounded up.
fn shift(product: i128, exponent: i32, rest: bool) -> i128 {
    if product == 0 {
        return i128::from(rest);
    }
    let power = exponent.unsigned_abs();
    if exponent >= 0 {
        let factor = 10_i128.checked_pow(power);
        return factor
            .and_then(|f| product.checked_mul(f))
            .map_or(MAX, |n| n.saturating_add(i128::from(rest)));
    }
    match 10_i128.checked_pow(power) {
        Some(divisor) => product / divisor + i128::from(product % divisor != 0 || rest),
        None => 1,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % UNIT == 0;
        let small = self.nanos.abs() < 1024 * UNIT;
        match self.format {
            Format::BinarySi if whole && !small => binary(self.nanos / UNIT, f),
            Format::DecimalExponent => {
                decimal(self.nanos, f, |e| if e == 0 { String::new() } else { format!("e{e}") })
            }
            _ => decimal(self.nanos, f, |e| si(e).to_owned()),
        }
    }
}

fn binary(mut units: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut power = 0;
    while units % 1024 == 0 && power + 1 < SUFFIXES.len() {
        units /= 1024;
        power += 1;
    }
    write!(f, "{units}{}", SUFFIXES.get(power).unwrap_or(&""))
}

fn decimal(nanos: i128, f: &mut fmt::Formatter<'_>, suffix: impl Fn(i32) -> String) -> fmt::Result {
    let (mut mantissa, mut exponent) = (nanos, -9);
    while mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    write!(f, "{mantissa}{}", suffix(exponent))
}

fn si(exponent: i32) -> &'static str {
    match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, self.nanos + other.nanos)
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, self.nanos - other.nanos)
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|error| format!("{error:?}"), |q| q.to_string())
    }

    #[test]
    fn texts_become_canonical_as_in_kubernetes() {
        for (text, wanted) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1024", "1024"),
            ("1023Ki", "1023Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1000000", "1M"),
            ("1500k", "1500k"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("1E2", "100"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            ("0.0000000001", "1n"),
            ("1.0000000001", "1000000001n"),
            (".5", "500m"),
            ("5.", "5"),
            ("9223372036854775807", "9223372036854775807"),
            ("99999999999999999999", "9223372036854775807"),
            ("1Ei", "1Ei"),
            ("8Ei", "9223372036854775807"),
            ("1e-12", "1e-9"),
            ("123456789012345678901234567890", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "Gi", "1 Gi", "1x", "--1", "é"] {
            assert_eq!(canonical(text), "Format", "{text}");
        }
        for text in ["1mm", "1KiB", "1e", "1ki"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
        assert_eq!(
            (canonical("1.2.3"), canonical("."), canonical("1ee")),
            ("Number".into(), "Number".into(), "Suffix".into())
        );
    }

    #[test]
    fn arithmetic_rounds_away_from_zero() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!((q("1500m").value(), q("-1500m").value(), q("1u").milli_value()), (2, -2, 1));
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((Quantity::default() + q("1Ki")).to_string(), "1Ki");
        assert!(q("1Gi") > q("1G") && q("1000m") == q("1") && (q("1") - q("2")).sign() == -1);
    }

    proptest::proptest! {
        #[test]
        fn canonical_text_is_stable(text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|Ki|Mi|Gi|Ti|e[0-9]|e-[0-9])?") {
            let once: Quantity = text.parse().unwrap();
            let again: Quantity = once.to_string().parse().unwrap();
            proptest::prop_assert_eq!(once, again);
            proptest::prop_assert_eq!(once.to_string(), again.to_string());
        }

        #[test]
        fn the_quick_check_never_lies(text in "[0-9]{0,4}[a-zA-Z]{0,2}") {
            if is_plainly_canonical(&text) {
                proptest::prop_assert_eq!(canonical(&text), text);
            }
        }
    }
}
