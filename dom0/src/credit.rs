//! Limits a guest's rate: so many bytes or operations in each interval, as by Linux's network
//! backend.

use core::str::FromStr;
use core::time::Duration;

/// Bytes, or operations, that are allowed in each interval. The store says it as
/// `AMOUNT,MICROSECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub amount: u64,
    /// In what time.
    pub interval: Duration,
}

/// Not a rate.
#[derive(Debug)]
pub struct NotARate;

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Rate, NotARate> {
        let (amount, interval) = text.split_once(',').ok_or(NotARate)?;
        let rate = Rate {
            amount: amount.parse().map_err(|_| NotARate)?,
            interval: Duration::from_micros(interval.parse().map_err(|_| NotARate)?),
        };
        if rate.amount == 0 || rate.interval.is_zero() { Err(NotARate) } else { Ok(rate) }
    }
}

/// What a guest may still do. Frames and transfers are not cut: the last one may run into debt, which
/// the next intervals pay.
#[derive(Debug)]
pub struct Credit {
    rate: Option<Rate>,
    left: i64,
    /// When the next interval begins.
    refill: Duration,
}

impl Credit {
    /// Without a rate there is no limit.
    pub fn new(rate: Option<Rate>, now: Duration) -> Credit {
        Credit { rate, left: 0, refill: now }
    }

    /// When something may be done; `None`: now.
    pub fn wait_until(&mut self, now: Duration) -> Option<Duration> {
        let rate = self.rate?;
        if now >= self.refill {
            self.earn(rate, now);
        }
        (self.left <= 0).then_some(self.refill)
    }

    /// Begins the interval in which `now` lies. Most guests have no rate: not to be in their way.
    #[inline(never)]
    fn earn(&mut self, rate: Rate, now: Duration) {
        // What was not used before is lost: no bursts after a pause.
        let elapsed = (now - self.refill).as_nanos() / rate.interval.as_nanos() + 1;
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        let amount = i64::try_from(rate.amount).unwrap_or(i64::MAX);
        let earned = amount.saturating_mul(elapsed.into());
        self.left = self.left.saturating_add(earned).min(amount);
        self.refill = self.refill.saturating_add(rate.interval.saturating_mul(elapsed));
    }

    /// So much was done.
    pub fn spend(&mut self, amount: usize) {
        if self.rate.is_some() {
            self.left = self.left.saturating_sub(i64::try_from(amount).unwrap_or(i64::MAX));
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
        assert_eq!(rate, Rate { amount: 125_000, interval: Duration::from_millis(50) });
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
            let mut credit = Credit::new(Some(Rate { amount: bytes, interval }), Duration::ZERO);
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
