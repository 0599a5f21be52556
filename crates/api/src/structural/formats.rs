//! The formats of strings that schemas may ask for and kube-apiserver checks. Others are not looked at.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine;
use regex::Regex;

/// Whether a text has a format; true for a format that is unknown.
pub fn holds(format: &str, text: &str) -> bool {
    match format {
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "date-time" | "datetime" => {
            text.as_bytes().get(10).is_some_and(|at| matches!(at, b'T' | b't'))
                && text.parse::<jiff::Timestamp>().is_ok()
        }
        "duration" => is_duration(text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "email" => matches_one(&EMAIL, text),
        "hostname" => text.len() <= 255 && matches_one(&HOSTNAME, text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => matches_one(&MAC, text),
        "uri" => matches_one(&URI, text),
        "uuid" => matches_one(&UUID, text),
        "uuid3" => matches_one(&UUID, text) && text.as_bytes().get(14) == Some(&b'3'),
        "uuid4" => matches_one(&UUID, text) && text.as_bytes().get(14) == Some(&b'4'),
        "uuid5" => matches_one(&UUID, text) && text.as_bytes().get(14) == Some(&b'5'),
        "hexcolor" => matches_one(&HEX_COLOR, text),
        _ => true,
    }
}

type Form = LazyLock<Option<Regex>>;

static EMAIL: Form = LazyLock::new(|| Regex::new(r"^[^\s@<>]+@[^\s@<>]+$").ok());
static HOSTNAME: Form = LazyLock::new(|| {
    Regex::new(
        r"^[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*\.?$",
    )
    .ok()
});
static MAC: Form = LazyLock::new(|| Regex::new(r"^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5,7}$").ok());
static URI: Form = LazyLock::new(|| Regex::new(r"^([a-zA-Z][a-zA-Z0-9+.-]*:\S+|/\S*)$").ok());
static UUID: Form =
    LazyLock::new(|| Regex::new(r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$").ok());
static HEX_COLOR: Form = LazyLock::new(|| Regex::new(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());

fn matches_one(form: &Form, text: &str) -> bool {
    form.as_ref().is_some_and(|form| form.is_match(text))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match (address.parse::<Ipv4Addr>(), address.parse::<Ipv6Addr>()) {
        (Ok(_), _) => 32,
        (_, Ok(_)) => 128,
        _ => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// Go's durations (`1h30m`), and words such as `3 days`.
fn is_duration(text: &str) -> bool {
    static GO: Form =
        LazyLock::new(|| Regex::new(r"^[-+]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$").ok());
    static WORDS: Form = LazyLock::new(|| {
        Regex::new(r"^\s*\d+\s*(ns|nanos?|us|µs|micros?|ms|millis?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)\s*$")
            .ok()
    });
    matches_one(&GO, text) || matches_one(&WORDS, text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_form_compiles_and_tells_good_from_bad() {
        for (format, good, bad) in [
            ("date", "2026-11-23", "2026-11-3"),
            ("date-time", "2026-11-23T09:00:00Z", "2026-11-23"),
            ("duration", "1h30m", "soon"),
            ("duration", "3 days", "3 moons"),
            ("byte", "aGk=", "h"),
            ("email", "a@b.c", "a b"),
            ("hostname", "a-b.example", "-a"),
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("uri", "https://a/b", "a b"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("hexcolor", "#fff", "#ffff"),
        ] {
            assert!(super::holds(format, good), "{format} {good}");
            assert!(!super::holds(format, bad), "{format} {bad}");
        }
        assert!(super::holds("anything", "x"));
    }
}
