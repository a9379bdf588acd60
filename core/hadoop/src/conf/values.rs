//! Values with a form: numbers, sizes, times, lists, addresses. Every mistake names key, value and place.

use super::{ConfError, Configuration, Source};
use std::time::Duration;

/// `TraditionalBinaryPrefix`: powers of 1,024, in either case.
const SIZE_UNITS: [(char, u32); 6] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50), ('e', 60)];
/// Units of `getTimeDuration` in nanoseconds, in either case; those that end in `s` before `s` itself.
const TIME_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// What a time without a unit is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds: keys that end in `ms`, and most others.
    Millis,
    /// Seconds.
    Seconds,
}

/// Splits `host:port`, `host` or `[v6]:port`; the port may be missing. A scheme before it and a path after it,
/// which Hadoop allows, are dropped.
pub(super) fn split_address(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let wrong = || format!("\"{text}\" is no address such as host.example.org:{default_port}");
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split('/').next().unwrap_or(text).trim();
    // Not the colons inside an IPv6 address, which has brackets when a port follows.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => default_port,
    };
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/?#@,\\$".contains(c);
    if host.is_empty() || host.contains(bad) {
        return Err(wrong());
    }
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    Ok((if bare_v6 { format!("[{host}]") } else { host.to_owned() }, port))
}

impl Configuration {
    /// A value, variables put in, without blanks around it; `None` when it is set nowhere.
    ///
    /// # Errors
    /// Variables that go in circles.
    pub fn get(&self, key: &str) -> Result<Option<String>, ConfError> {
        let Some(property) = self.property(key) else { return Ok(None) };
        match self.substitute(&property.raw) {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            Err(message) => Err(self.wrong(key, &property.raw, message)),
        }
    }

    /// A value that must be there and not be empty.
    ///
    /// # Errors
    /// Names the key when it is not.
    pub fn require(&self, key: &str) -> Result<String, ConfError> {
        self.get(key)?
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ConfError::Missing(format!("{key} is not set in {}", self.where_looked())))
    }

    /// `true` or `false`, in either case; `default` when it is set nowhere.
    ///
    /// # Errors
    /// Anything else, which Hadoop takes for the default.
    pub fn get_bool(&self, key: &str, default: bool) -> Result<bool, ConfError> {
        self.parse(key, default, |value| match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("it is neither true nor false".into()),
        })
    }

    /// A whole number, decimal or hexadecimal (`0x1f`).
    ///
    /// # Errors
    /// Text that is no number, or one that does not fit.
    pub fn get_int(&self, key: &str, default: i64) -> Result<i64, ConfError> {
        self.parse(key, default, |value| {
            let (sign, digits) = match value.strip_prefix('-') {
                Some(digits) => (-1i128, digits),
                None => (1, value.strip_prefix('+').unwrap_or(value)),
            };
            let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
            let (digits, radix) = hex.map_or((digits, 10), |hex| (hex, 16));
            let number = Some(digits).filter(|d| !d.starts_with(['+', '-']));
            let number = number.and_then(|d| u64::from_str_radix(d, radix).ok());
            number
                .and_then(|n| i64::try_from(sign * i128::from(n)).ok())
                .ok_or_else(|| "it is no whole number".into())
        })
    }

    /// A size in bytes: a number with `k`, `m`, `g`, `t`, `p` or `e` (powers of 1,024), or without.
    ///
    /// # Errors
    /// Another unit, a fraction, or a size that does not fit 63 bits.
    pub fn get_size(&self, key: &str, default: u64) -> Result<u64, ConfError> {
        self.parse(key, default, |value| {
            let last = value.chars().last().unwrap_or_default().to_ascii_lowercase();
            let unit = SIZE_UNITS.iter().find(|(unit, _)| *unit == last);
            let (digits, shift) = unit.map_or((value, 0), |(_, shift)| (&value[..value.len() - 1], *shift));
            let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
            number
                .and_then(|n| n.checked_mul(1 << shift))
                .filter(|bytes| i64::try_from(*bytes).is_ok())
                .ok_or_else(|| "it is no size such as 134217728, 512k, 128m or 1g".into())
        })
    }

    /// A time: a number with `ns`, `us`, `ms`, `s`, `m`, `h` or `d`, or without, counted in `unit`. Negative
    /// ones, by which Hadoop says "never", are `None`.
    ///
    /// # Errors
    /// Another unit or a fraction.
    pub fn get_time(
        &self,
        key: &str,
        unit: TimeUnit,
        default: Option<Duration>,
    ) -> Result<Option<Duration>, ConfError> {
        self.parse(key, default, |value| {
            let wrong = || "it is no time such as 500ms, 30s, 10m or 2h".to_owned();
            let value = value.to_ascii_lowercase();
            let given = TIME_UNITS.iter().find_map(|(name, nanos)| Some((value.strip_suffix(name)?, *nanos)));
            let (digits, nanos) = given.unwrap_or((
                &value,
                match unit {
                    TimeUnit::Millis => 1_000_000,
                    TimeUnit::Seconds => 1_000_000_000,
                },
            ));
            let number: i64 = digits.parse().map_err(|_| wrong())?;
            let Ok(number) = u64::try_from(number) else { return Ok(None) };
            let total = u128::from(number) * u128::from(nanos);
            let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| wrong())?;
            Ok(Some(Duration::new(seconds, (total % 1_000_000_000) as u32)))
        })
    }

    /// A list: separated by commas or lines, trimmed, empty parts left out. Empty when it is set nowhere.
    ///
    /// # Errors
    /// Variables that go in circles.
    pub fn get_list(&self, key: &str) -> Result<Vec<String>, ConfError> {
        let value = self.get(key)?.unwrap_or_default();
        let parts = value.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        Ok(parts.map(str::to_owned).collect())
    }

    /// An address as `host:port`; `default_port` when it names none. `None` when it is set nowhere.
    ///
    /// # Errors
    /// Text that is no address.
    pub fn get_address(&self, key: &str, default_port: u16) -> Result<Option<String>, ConfError> {
        self.parse(key, None, |value| {
            let (host, port) = split_address(value, default_port)?;
            Ok(Some(format!("{host}:{port}")))
        })
    }

    /// `parse` of the value, or `default` when there is none.
    fn parse<T>(
        &self,
        key: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfError> {
        match self.get(key)? {
            None => Ok(default),
            Some(value) if value.is_empty() => Ok(default),
            Some(value) => parse(&value).map_err(|message| self.wrong(key, &value, message)),
        }
    }

    /// An error about a value that is set.
    pub(super) fn wrong(&self, key: &str, value: &str, message: String) -> ConfError {
        let at = self.property(key).map_or(Source::Default, |property| property.source.clone());
        ConfError::Value { key: key.to_owned(), value: value.to_owned(), at: Box::new(at), message }
    }

    /// Where a missing value should have been.
    pub(super) fn where_looked(&self) -> String {
        match self.files() {
            [] => "any file: no configuration was read (HADOOP_CONF_DIR, YARN_CONF_DIR)".into(),
            files => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
        }
    }
}
