//! Sizes and durations: text with a unit, so that nobody has to guess whether 512 means bytes or mebibytes.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tib", 1 << 40),
];
const TIME_UNITS: [(&str, f64); 8] = [
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86400.0),
    ("day", 86400.0),
];

/// Splits `"1.5 GiB"` into the number and the lower-cased unit.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// Reads a size such as `512 MiB`, `2g` or `64 KiB`; units are powers of 1,024, as Hadoop and Spark use them.
///
/// # Errors
/// Says which units are accepted when there is none, an unknown one, or the number does not fit.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const ACCEPTED: &str = "a size with a unit, such as \"512 MiB\" or \"2g\" (B, KiB, MiB, GiB, TiB)";
    let (number, unit) = split(text).ok_or_else(|| format!("\"{text}\" is not {ACCEPTED}"))?;
    if unit.is_empty() {
        return Err(format!("\"{text}\" has no unit; expected {ACCEPTED}"));
    }
    let (_, factor) = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("\"{text}\" has the unknown unit \"{unit}\"; expected {ACCEPTED}"))?;
    let bytes = number * *factor as f64;
    if bytes >= (1u64 << 60) as f64 {
        return Err(format!("\"{text}\" is larger than any machine; expected {ACCEPTED}"));
    }
    Ok(bytes as u64)
}

/// Reads a duration such as `250 ms`, `30 s`, `10 min` or `2h`.
///
/// # Errors
/// Says which units are accepted when there is none, an unknown one, or the number does not fit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "a duration with a unit, such as \"250 ms\" or \"10 min\" (us, ms, s, min, h, d)";
    let (number, unit) = split(text).ok_or_else(|| format!("\"{text}\" is not {ACCEPTED}"))?;
    if unit.is_empty() {
        return Err(format!("\"{text}\" has no unit; expected {ACCEPTED}"));
    }
    let (_, seconds) = TIME_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("\"{text}\" has the unknown unit \"{unit}\"; expected {ACCEPTED}"))?;
    let total = number * seconds;
    if total > 1e10 {
        return Err(format!("\"{text}\" is longer than 300 years; expected {ACCEPTED}"));
    }
    Ok(Duration::from_secs_f64(total))
}

/// Writes a size so that [`parse_bytes`] reads the same number back where the unit divides it.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// Writes a duration so that [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, size) in [("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000)] {
        if micros >= size && micros.is_multiple_of(size) {
            return format!("{} {unit}", micros / size);
        }
    }
    format!("{micros} us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_round_trip() {
        for (text, bytes) in [("512 MiB", 512 << 20), ("2g", 2 << 30), ("1.5 GiB", 3 << 29), ("7 B", 7)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
        for (text, millis) in [("250 ms", 250), ("30s", 30_000), ("10 min", 600_000), ("2h", 7_200_000)] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(duration));
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn a_missing_or_unknown_unit_says_what_is_accepted() {
        assert!(parse_bytes("512").unwrap_err().contains("no unit"));
        assert!(parse_bytes("3 parsecs").unwrap_err().contains("unknown unit \"parsecs\""));
        assert!(parse_bytes("-1 MiB").unwrap_err().contains("MiB"));
        assert!(parse_bytes("99999999999 TiB").unwrap_err().contains("larger"));
        assert!(parse_duration("fast").unwrap_err().contains("ms"));
        assert!(parse_duration("30").unwrap_err().contains("no unit"));
    }
}
