//! Limits a guest's rate (`rate` in xl.cfg): so many bytes in each interval, as by Linux's backend.

use core::str::FromStr;
use core::time::Duration;

/// Bytes that may be sent in each interval. The store says it as `BYTES,MICROSECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) bytes: u64,
    pub(super) interval: Duration,
}

/// Not a rate.
#[derive(Debug)]
pub(super) struct NotARate;

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Rate, NotARate> {
        let (bytes, interval) = text.split_once(',').ok_or(NotARate)?;
        let rate = Rate {
            bytes: bytes.parse().map_err(|_| NotARate)?,
            interval: Duration::from_micros(interval.parse().map_err(|_| NotARate)?),
        };
        if rate.bytes == 0 || rate.interval.is_zero() { Err(NotARate) } else { Ok(rate) }
    }
}

/// What a guest may still send. Frames are not cut: the last one may run into debt, which the next
/// intervals pay.
#[derive(Debug)]
pub(super) struct Credit {
    rate: Option<Rate>,
    left: i64,
    /// When the next interval begins.
    refill: Duration,
}

impl Credit {
    /// Without a rate there is no limit.
    pub(super) fn new(rate: Option<Rate>, now: Duration) -> Credit {
        Credit { rate, left: 0, refill: now }
    }

    /// When something may be sent; `None`: now.
    pub(super) fn wait_until(&mut self, now: Duration) -> Option<Duration> {
        let rate = self.rate?;
        if now >= self.refill {
            // What was not used before is lost: no bursts after a pause.
            let elapsed = (now - self.refill).as_nanos() / rate.interval.as_nanos() + 1;
            let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
            let bytes = i64::try_from(rate.bytes).unwrap_or(i64::MAX);
            let earned = bytes.saturating_mul(elapsed.into());
            self.left = self.left.saturating_add(earned).min(bytes);
            self.refill = self.refill.saturating_add(rate.interval.saturating_mul(elapsed));
        }
        (self.left <= 0).then_some(self.refill)
    }

    /// So many bytes were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read() {
        let rate: Rate = "125000,50000".parse().unwrap();
        assert_eq!(rate, Rate { bytes: 125_000, interval: Duration::from_millis(50) });
        for text in ["", "1", "0,5", "5,0", "x,1", "1,2,3"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut credit = Credit::new(None, Duration::ZERO);
        credit.spend(usize::MAX);
        assert_eq!(credit.wait_until(Duration::ZERO), None);
    }

    proptest! {
        #[test]
        fn in_the_long_run_the_rate_is_kept(
            frames in prop::collection::vec((1..65_536_usize, 0..100_000_u64), 1..100),
            bytes in 1..100_000_u64,
        ) {
            let interval = Duration::from_millis(10);
            let mut credit = Credit::new(Some(Rate { bytes, interval }), Duration::ZERO);
            let (mut now, mut sent, mut last) = (Duration::ZERO, 0, 0);
            for (frame, pause) in frames {
                now += Duration::from_micros(pause);
                while let Some(then) = credit.wait_until(now) {
                    prop_assert!(then > now);
                    now = then;
                }
                credit.spend(frame);
                (sent, last) = (sent + frame as u64, frame as u64);
            }
            let intervals = (now.as_micros() / 10_000) as u64 + 1;
            prop_assert!(sent - last <= bytes * intervals, "{sent} bytes in {intervals}");
        }
    }
}
