//! How much a guest may have done for it: `10Mb/s`, `250KB/s`, `1MB/s@20ms`, as xl's `rate` of an
//! interface; and `500/s`, operations of a disk.

use alloc::string::{String, ToString};
use core::fmt;

use thiserror::Error;

/// In which it is counted if nothing else is said, in microseconds.
const INTERVAL: u64 = 50_000;
const MICROSECONDS: u64 = 1_000_000;

/// How much may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes, or operations.
    per_second: u64,
    /// In microseconds.
    interval: u64,
}

impl fmt::Display for Rate {
    /// As a backend wants it: the amount in each interval, and the interval.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.per_second.saturating_mul(self.interval) / MICROSECONDS;
        write!(f, "{},{}", amount.max(1), self.interval)
    }
}

/// Not a rate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotARate {
    /// Of bytes.
    #[error("rate `{0}` is not a rate such as 10Mb/s, 250KB/s or 1MB/s@20ms")]
    Bytes(String),
    /// Of operations.
    #[error("iops `{0}` is not a rate such as 500/s")]
    Operations(String),
}

impl Rate {
    /// Reads `10Mb/s`, `250KB/s`, `1MB/s@20ms`: b are bits, B are bytes.
    ///
    /// # Errors
    /// If it is something else, or nothing.
    pub fn of_bytes(text: &str) -> Result<Rate, NotARate> {
        let bits = |unit: &str| {
            Some(match unit {
                "b" => 1,
                "Kb" => 1_000,
                "Mb" => 1_000_000,
                "Gb" => 1_000_000_000,
                "B" => 8,
                "KB" => 8_000,
                "MB" => 8_000_000,
                "GB" => 8_000_000_000,
                _ => return None,
            })
        };
        parse(text, bits, 8).ok_or_else(|| NotARate::Bytes(text.to_string()))
    }

    /// Reads `500/s`, `500/s@20ms`.
    ///
    /// # Errors
    /// If it is something else, or nothing.
    pub fn of_operations(text: &str) -> Result<Rate, NotARate> {
        let one = |unit: &str| unit.is_empty().then_some(1);
        let rate = parse(text, one, 1).ok_or_else(|| NotARate::Operations(text.to_string()))?;
        // In an interval that has less than one of them there would be one.
        let interval = rate.interval.max(MICROSECONDS / rate.per_second);
        Ok(Rate { interval, ..rate })
    }
}

/// A number with a unit per second, perhaps with an interval; `whole` of what the unit is worth
/// make one.
fn parse(text: &str, worth: impl Fn(&str) -> Option<u64>, whole: u64) -> Option<Rate> {
    let (rate, interval) = text.split_once('@').map_or((text, None), |(a, b)| (a, Some(b)));
    let (number, unit) = split_number(rate.strip_suffix("/s")?);
    let number: u64 = number.parse().ok()?;
    let per_second = number.checked_mul(worth(unit)?)? / whole;
    let interval = interval.map_or(Some(INTERVAL), interval_of)?;
    (per_second > 0 && interval > 0).then_some(Rate { per_second, interval })
}

/// In microseconds.
fn interval_of(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text);
    let number: u64 = number.parse().ok()?;
    match unit {
        "us" => Some(number),
        "ms" => number.checked_mul(1_000),
        "s" => number.checked_mul(MICROSECONDS),
        _ => None,
    }
}

/// The digits at the beginning, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_xls() {
        let rate = |text| Rate::of_bytes(text).map(|rate| rate.to_string());
        assert_eq!(rate("250KB/s").unwrap(), "12500,50000");
        assert_eq!(rate("1MB/s@20ms").unwrap(), "20000,20000");
        assert_eq!(rate("8b/s@1us").unwrap(), "1,1");
        for text in
            ["", "10", "10/s", "Mb/s", "0MB/s", "1MB", "1MB/s@", "1MB/s@5", "99999999999GB/s"]
        {
            assert_eq!(rate(text), Err(NotARate::Bytes(text.into())));
        }
    }

    #[test]
    fn operations_are_counted_in_whole_ones() {
        let rate = |text| Rate::of_operations(text).map(|rate| rate.to_string());
        assert_eq!(rate("500/s").unwrap(), "25,50000");
        assert_eq!(rate("500/s@20ms").unwrap(), "10,20000");
        assert_eq!(rate("2/s").unwrap(), "1,500000");
        for text in ["", "500", "0/s", "500B/s", "/s"] {
            assert_eq!(rate(text), Err(NotARate::Operations(text.into())));
        }
    }
}
