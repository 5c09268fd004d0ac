//! Virtual time: how much CPU a vCPU has had, measured in what its domain is entitled to. Who has
//! had least is served first.

use super::heap::Order;
use crate::types::Ticks;

/// Virtual time passes so much faster than real time for the only vCPU of a domain of the default
/// weight. It leaves room for a fraction: time passes slower for heavier domains.
const UNITS_PER_TICK: u64 = 1 << 16;

/// The weight of a domain of which nothing else was said, as in Xen.
pub const DEFAULT_WEIGHT: u16 = 256;

/// A point in virtual time. It wraps: two points that are compared are always close to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VirtualTime(u64);

/// A length of virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(u64);

impl Order for VirtualTime {
    #[inline]
    fn before(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() < 0
    }
}

impl VirtualTime {
    pub(super) const ZERO: VirtualTime = VirtualTime(0);

    #[inline]
    pub(super) fn plus(self, span: Span) -> VirtualTime {
        VirtualTime(self.0.wrapping_add(span.0))
    }

    #[inline]
    pub(super) fn minus(self, span: Span) -> VirtualTime {
        VirtualTime(self.0.wrapping_sub(span.0))
    }

    /// The later of two.
    #[inline]
    pub(super) fn max(self, other: VirtualTime) -> VirtualTime {
        if self.before(other) { other } else { self }
    }

    /// This, seen from another clock: as far from it as from the one before.
    pub(super) fn moved(self, from: VirtualTime, to: VirtualTime) -> VirtualTime {
        VirtualTime(self.0.wrapping_sub(from.0).wrapping_add(to.0))
    }

    /// The first point after this.
    #[inline]
    pub(super) fn next(self) -> VirtualTime {
        self.plus(Span(1))
    }

    /// This, unless it lies before `floor` or farther than `reach` after it: then it comes from long
    /// ago, before virtual time wrapped.
    #[inline]
    pub(super) fn near(self, floor: VirtualTime, reach: Span) -> VirtualTime {
        if self.0.wrapping_sub(floor.0) <= reach.0 { self } else { floor }
    }
}

impl Span {
    pub(super) const ZERO: Span = Span(0);

    #[inline]
    pub(super) fn plus(self, other: Span) -> Span {
        Span(self.0.wrapping_add(other.0))
    }

    /// What a domain of the default weight is charged for this time on one CPU.
    pub(super) const fn of(ticks: Ticks) -> Span {
        Span(ticks.0.saturating_mul(UNITS_PER_TICK))
    }
}

/// How fast virtual time passes for a domain's vCPUs while one of them runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(u64);

impl Rate {
    pub(super) const fn of_weight(weight: u16) -> Rate {
        let weight = if weight == 0 { 1 } else { weight };
        Rate(UNITS_PER_TICK * DEFAULT_WEIGHT as u64 / weight as u64)
    }

    /// What a vCPU is charged for having run so long, while its domain had `runnable` vCPUs that
    /// wanted to: they have the domain's weight in common.
    #[inline]
    pub(super) fn charge(self, ran: Ticks, runnable: u8) -> Span {
        Span(self.0.wrapping_mul(u64::from(runnable)).wrapping_mul(ran.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_survives_wrapping(start: u64, ahead in 1..1u64 << 60) {
            let (early, late) = (VirtualTime(start), VirtualTime(start.wrapping_add(ahead)));
            prop_assert!(early.before(late) && !late.before(early));
            prop_assert_eq!(early.max(late), late);
            prop_assert_eq!(early.near(late, Span(1 << 60)), late);
            prop_assert_eq!(late.near(early, Span(ahead)), late);
            prop_assert_eq!(late.near(early, Span(ahead - 1)), early);
        }

        #[test]
        fn twice_the_weight_is_half_the_charge(shift in 0..16u32, ran in 0..1u64 << 25) {
            let light = Rate::of_weight(1).charge(Ticks(ran), 1);
            let heavy = Rate::of_weight(1 << shift).charge(Ticks(ran), 1);
            prop_assert_eq!(light.0, heavy.0 << shift);
        }

        #[test]
        fn the_largest_charge_is_far_from_the_order_s_reach(weight: u16, runnable in 0..=8u8) {
            // Two slices at the highest rate of a counter.
            let ran = Ticks(u64::from(u32::MAX) / 100);
            prop_assert!(Rate::of_weight(weight).charge(ran, runnable).0 < 1 << 59);
        }
    }
}
