//! How much a domain may write to the monitor's log: enough to say what went wrong, not enough to
//! keep others from being read.

use crate::machine::timer;
use crate::types::Ticks;

/// A domain's share of the log: this many chunks in each interval, and a word on how many more it
/// wanted to write.
#[derive(Debug, Clone, Copy)]
pub struct LogBudget {
    interval_start: Ticks,
    written: u32,
}

impl LogBudget {
    const CHUNKS_PER_INTERVAL: u32 = 32;
    const INTERVAL_NANOSECONDS: u64 = 1_000_000_000;

    /// Nothing written yet.
    pub const fn new() -> Self {
        LogBudget { interval_start: Ticks(0), written: 0 }
    }

    /// Whether another chunk may be written; if not, how many were refused in this interval.
    pub fn take(&mut self, now: Ticks) -> Result<(), u32> {
        let interval = timer::from_nanoseconds(Self::INTERVAL_NANOSECONDS);
        if now.0.saturating_sub(self.interval_start.0) >= interval.0 {
            *self = LogBudget { interval_start: now, written: 0 };
        }
        self.written = self.written.saturating_add(1);
        match self.written.checked_sub(Self::CHUNKS_PER_INTERVAL + 1) {
            None => Ok(()),
            Some(before) => Err(before + 1),
        }
    }
}

impl Default for LogBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_the_next_interval_begins_anew() {
        let mut budget = LogBudget::new();
        let start = Ticks(5_000_000_000);
        let accepted = (0..100).filter(|_| budget.take(start).is_ok()).count();
        assert_eq!(accepted, LogBudget::CHUNKS_PER_INTERVAL as usize);
        assert_eq!(budget.take(start), Err(69));
        let interval = timer::from_nanoseconds(LogBudget::INTERVAL_NANOSECONDS);
        assert_eq!(budget.take(Ticks(start.0 + interval.0)), Ok(()));
    }
}
