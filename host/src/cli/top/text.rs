//! Names, reasons and figures as they stand in a cell.
//!
//! Invariant: nothing that a message or a plugin says steers the terminal, or looks like something else than it is.

use crate::cli::output::is_steering;

/// One line of somebody else's text: what would steer a terminal, or the direction of the text, is escaped.
pub(super) fn plain(text: &str) -> String {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    first.chars().fold(String::with_capacity(first.len()), |mut plain, character| {
        if character == '\t' {
            plain.push(' ');
        } else if is_steering(character) {
            plain.extend(character.escape_unicode());
        } else {
            plain.push(character);
        }
        plain
    })
}

/// `1234` as `1,234`; large ones short, as `1.2M`.
pub(super) fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{},{:03}", number / 1_000, number % 1_000),
        1_000_000..1_000_000_000 => format!("{}.{}M", number / 1_000_000, number / 100_000 % 10),
        _ => format!("{}.{}G", number / 1_000_000_000, number / 100_000_000 % 10),
    }
}

/// Bytes with a unit.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut tenths, mut unit) = (number, 0, "B");
    for larger in UNITS {
        if whole < 1_024 {
            break;
        }
        (whole, tenths, unit) = (whole / 1_024, whole % 1_024 * 10 / 1_024, larger);
    }
    if unit != "B" && whole < 10 { format!("{whole}.{tenths} {unit}") } else { format!("{whole} {unit}") }
}

/// Seconds in the largest unit that says enough.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds of a quantile.
pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.0} s", ms / 1_000.0),
    }
}

/// Deliveries in a second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second == 0.0 {
        "0".to_owned()
    } else if per_second < 10.0 {
        format!("{per_second:.2}")
    } else {
        format!("{per_second:.0}")
    }
}

/// A part as percent; a little is not nothing.
pub(super) fn percent(part: f64) -> String {
    match part * 100.0 {
        0.0 => "0".to_owned(),
        some if some < 0.1 => "<0.1".to_owned(),
        some if some < 10.0 => format!("{some:.1}"),
        some => format!("{some:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_one_harmless_line() {
        assert_eq!(plain("a\u{1b}[2Jb\nsecond"), "a\\u{1b}[2Jb");
        assert_eq!(plain("\n\nsafe\u{202e}gpj.exe\ttab"), "safe\\u{202e}gpj.exe tab");
        assert_eq!(plain("Grüße 漢字"), "Grüße 漢字");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0, 999, 1_000, 54_321, 1_250_000, 7_000_000_000].map(count),
            ["0", "999", "1,000", "54,321", "1.2M", "7.0G"]
        );
        assert_eq!([0, 1_023, 1_536, 5 << 20, 40 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "40 GiB"]);
        assert_eq!([0, 61, 3_700, 400_000].map(duration), ["0 s", "1 min", "1 h 1 min", "4 d"]);
        assert_eq!([0.0, 0.0001, 0.051, 0.5].map(percent), ["0", "<0.1", "5.1", "50"]);
    }
}
