//! What a domain may have of the CPUs: its weight against others, and its cap.

use super::virtual_time::{DEFAULT_WEIGHT, Rate};
use crate::types::Ticks;

/// A domain's parameters, with the meaning that Xen's credit2 gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Its share of contended CPUs, relative to those of other domains. Not zero.
    pub weight: u16,
    /// The most that it may use, in percent of one CPU; zero: no limit.
    pub cap: u16,
}

impl Parameters {
    /// Those of a domain of which nothing was said.
    pub const DEFAULT: Parameters = Parameters { weight: DEFAULT_WEIGHT, cap: 0 };
}

/// A domain's share. Aligned, so that one is found by a shift.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Share {
    pub(super) parameters: Parameters,
    pub(super) rate: Rate,
    /// How many of its vCPUs run or want to.
    pub(super) runnable: u8,
    /// If it has a cap.
    pub(super) budget: Option<Budget>,
}

impl Share {
    /// That of a domain of which nothing was said.
    pub(super) const DEFAULT: Share = Share {
        parameters: Parameters::DEFAULT,
        rate: Rate::of_weight(DEFAULT_WEIGHT),
        runnable: 0,
        budget: None,
    };

    /// Sets the parameters. A budget begins full.
    pub(super) fn set(&mut self, parameters: Parameters, period: Ticks, now: Ticks) {
        self.parameters = parameters;
        self.rate = Rate::of_weight(parameters.weight);
        let capped = parameters.cap != 0;
        self.budget = capped.then(|| Budget::new(parameters.cap, period, now));
    }
}

/// CPU time that a domain with a cap may still use. Each period adds its part. What was used too
/// much is owed; of what is left as much as a period's is kept, since some of it may have been used
/// by vCPUs that still run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    period: Ticks,
    /// Ticks that a period adds. Not zero.
    income: u64,
    /// Ticks.
    left: i64,
    /// The beginning of the period for which income was added last.
    since: Ticks,
}

impl Budget {
    fn new(cap: u16, period: Ticks, now: Ticks) -> Budget {
        let period = Ticks(period.0.max(1));
        let income = (u64::from(cap).saturating_mul(period.0) / 100).max(1);
        Budget { period, income, left: income.cast_signed(), since: now }
    }

    /// Notes that it has used so much.
    pub(super) fn spend(&mut self, ran: Ticks) {
        self.left = self.left.saturating_sub_unsigned(ran.0);
    }

    /// How much is left, if anything is, counting the income until now.
    pub(super) fn left(&mut self, now: Ticks) -> Option<Ticks> {
        let periods = now.0.saturating_sub(self.since.0) / self.period.0;
        if periods > 0 {
            let income = self.income.saturating_mul(periods);
            let most = self.income.saturating_mul(2).cast_signed();
            self.left = self.left.saturating_add_unsigned(income).min(most);
            self.since.0 = self.since.0.saturating_add(periods.saturating_mul(self.period.0));
        }
        u64::try_from(self.left).ok().filter(|&left| left > 0).map(Ticks)
    }

    /// When there will be something left again.
    pub(super) fn next_income(&self) -> Ticks {
        let owed = self.left.min(0).unsigned_abs();
        let periods = (owed / self.income).saturating_add(1);
        Ticks(self.since.0.saturating_add(periods.saturating_mul(self.period.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However it is used, no more is handed out than the cap allows, but for one use that was
        /// too long; and who waits until the next income gets some.
        #[test]
        fn a_budget_is_kept(cap in 1..800u16, uses in prop::collection::vec(1..2000u64, 1..50)) {
            let period = 1000;
            let mut budget = Budget::new(cap, Ticks(period), Ticks(0));
            let (mut now, mut used, mut longest) = (0, 0, 0);
            for ran in uses {
                if budget.left(Ticks(now)).is_none() {
                    let next = budget.next_income().0;
                    prop_assert!(next > now);
                    prop_assert!(budget.left(Ticks(next - 1)).is_none(), "it waited too long");
                    now = next;
                    prop_assert!(budget.left(Ticks(now)).is_some(), "it waited for nothing");
                }
                budget.spend(Ticks(ran));
                used += ran;
                longest = longest.max(ran);
                let periods = now / period + 1;
                prop_assert!(used <= (periods + 1) * budget.income + longest);
                now += ran;
            }
        }
    }

    #[test]
    fn of_what_is_not_used_little_is_saved() {
        let mut budget = Budget::new(50, Ticks(1000), Ticks(0));
        assert_eq!(budget.left(Ticks(100_000)), Some(Ticks(1000)));
    }
}
