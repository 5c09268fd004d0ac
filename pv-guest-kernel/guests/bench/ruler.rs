//! The ruler: the virtual counter, less what reading it costs.

use crate::machine::counter;

/// How often nothing is measured to learn what measuring costs.
const ROUNDS: usize = 1000;

/// Measures in ticks of the virtual counter.
#[derive(Debug, Clone, Copy)]
pub struct Ruler {
    empty: u64,
}

impl Ruler {
    /// Learns what an empty measurement costs.
    pub fn new() -> Ruler {
        let bare = Ruler { empty: 0 };
        let empty = (0..ROUNDS).map(|_| bare.time(|| ()).0).min().unwrap_or(0);
        Ruler { empty }
    }

    /// The ticks that `operation` takes, and its result.
    #[inline(always)]
    pub fn time<R>(&self, operation: impl FnOnce() -> R) -> (u64, R) {
        let start = counter::now();
        let result = operation();
        let ticks = counter::now() - start;
        (ticks.saturating_sub(self.empty), result)
    }
}
