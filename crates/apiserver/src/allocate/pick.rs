//! Chooses a free number out of a range.
//!
//! The lower band is left for those who ask for a number of their own, as long as there is room above it.

use std::ops::Range;

/// Numbers at the start of a range of addresses that are given last.
pub(super) fn address_band(size: u32) -> u32 {
    band(size, 16, 16, 256)
}

/// Numbers at the start of a range of ports that are given last.
pub(super) fn port_band(size: u32) -> u32 {
    band(size, 32, 16, 128)
}

fn band(size: u32, share: u32, min: u32, max: u32) -> u32 {
    if size < min { 0 } else { (size / share).clamp(min, max) }
}

/// A number in `range` that is not `taken`, if any: first above the lower `band`, from a `random` place on, then in it.
pub(super) fn pick(range: Range<u32>, band: u32, random: u32, taken: impl Fn(u32) -> bool) -> Option<u32> {
    let border = range.start.saturating_add(band).min(range.end);
    search(border..range.end, random, &taken).or_else(|| search(range.start..border, random, &taken))
}

fn search(range: Range<u32>, random: u32, taken: &impl Fn(u32) -> bool) -> Option<u32> {
    let len = range.end.checked_sub(range.start).filter(|len| *len > 0)?;
    let start = random % len;
    (0..len).map(|i| range.start + (start + i) % len).find(|number| !taken(*number))
}
