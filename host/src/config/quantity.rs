//! Durations and sizes: numbers with a unit, read and shown.
//!
//! A number without a unit is refused, because nobody can see whether `30` means seconds or bytes.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::capability::rate::Rate;

/// More often than anybody is asked; it keeps the time between two above a microsecond.
const RATE_MAX: u32 = 1_000_000;
const DURATION_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a duration: `500ms`, `30s`, `5m`, `24h`, `7d`, `2w`, or several together as in `1h30m`.
///
/// # Errors
/// The text says what to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let allowed = "a whole number and a unit, such as \"500ms\", \"30s\", \"5m\", \"24h\" or \"7d\"";
    let mut total_ms: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(allowed.into());
    }
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or(allowed)?;
        let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or(allowed)?.1;
        let part = number.checked_mul(factor).ok_or("a shorter duration")?;
        total_ms = total_ms.checked_add(part).ok_or("a shorter duration")?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a size: `512B`, `64KiB`, `1MiB`, `2GiB`, `1TiB`.
///
/// # Errors
/// The text says what to write instead.
pub fn size(text: &str) -> Result<u64, String> {
    let allowed = "a whole number and a unit, such as \"512B\", \"64KiB\", \"1MiB\" or \"2GiB\"";
    let (number, unit, after) = number_and_unit(text.trim()).ok_or(allowed)?;
    if !after.is_empty() {
        return Err(allowed.into());
    }
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant =
            SIZE_UNITS.iter().find(|(name, _)| name.replace('i', "").eq_ignore_ascii_case(&unit.replace('i', "")));
        return Err(meant.map_or_else(|| allowed.into(), |(name, _)| format!("did you mean \"{number}{name}\"?")));
    };
    number.checked_mul(*factor).ok_or_else(|| "a smaller size".into())
}

/// Reads a rate: `10/s`, `600/m`, `5000/h`.
///
/// # Errors
/// The text says what to write instead.
pub fn rate(text: &str) -> Result<Rate, String> {
    let allowed = "a whole number from 1 to 1000000 and a time, such as \"10/s\", \"600/m\" or \"5000/h\"";
    let (amount, unit) = text.trim().split_once('/').ok_or(allowed)?;
    let seconds = match unit.trim_start() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(allowed.into()),
    };
    let is_number = amount.trim_end().bytes().all(|byte| byte.is_ascii_digit());
    let amount = amount.trim_end().parse().ok().filter(|amount: &NonZeroU32| is_number && amount.get() <= RATE_MAX);
    Ok(Rate::new(amount.ok_or(allowed)?, Duration::from_secs(seconds)))
}

/// A duration in the largest unit that holds it exactly.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Weeks read worse than days.
    show(ms, &DURATION_UNITS[..5], "0s")
}

/// A size in the largest unit that holds it exactly.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS, "0B")
}

fn show(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    let unit = units.iter().rev().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    unit.map_or_else(|| zero.to_owned(), |(name, factor)| format!("{}{name}", amount / factor))
}

fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let unit_start = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, rest) = text.split_at(unit_start);
    let rest = rest.trim_start();
    let unit_end = rest.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_end);
    Some((number.parse().ok()?, unit, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "30", "1.5s", "5 minutes", "s", "-1s", "99999999999999999999s", "999999999999999999d", "1é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_binary_units() {
        for (text, bytes) in [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "1.5MiB", "1MiB2KiB", "9999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("64MB"), Err("did you mean \"64MiB\"?".into()));
        assert_eq!(size("64mb"), Err("did you mean \"64MiB\"?".into()));
    }

    #[test]
    fn rates_are_whole_numbers_in_a_second_a_minute_or_an_hour() {
        for (text, amount, seconds) in [("10/s", 10, 1), ("600 / m", 600, 60), ("5000/h", 5_000, 3_600)] {
            let expected = NonZeroU32::new(amount).map(|amount| Rate::new(amount, Duration::from_secs(seconds)));
            assert_eq!(rate(text).ok(), expected, "{text}");
        }
        for text in ["", "10", "10/", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "10/d", "10/sec", "10/s/s", "1000001/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_shown_as_they_are_written() {
        assert_eq!(show_duration(Duration::from_secs(5_400)), "90m");
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
        assert_eq!(show_size(64 << 20), "64MiB");
    }
}
