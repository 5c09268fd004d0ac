//! The stacks of the vCPUs other than the first, which has its in the image. They lie right behind
//! the image and are laid out at boot, when the pages below them can still be left unmapped: a
//! stack that overflows ends in a fault, as that of the first vCPU does.

use core::ops::Range;

const PAGE: u64 = abi::PAGE_SIZE as u64;
/// What each vCPU has: a page that is not mapped, a stack, and a stack for exceptions.
const AREA: u64 = 0x2_0000;
const EXCEPTION_STACK: u64 = 0x4000;

/// Where the stacks of all vCPUs but the first are to be. Nowhere if they would leave RAM or
/// overlap something: then there are no other vCPUs.
pub(crate) fn behind(
    image_end: u64,
    vcpus: usize,
    mut ram: impl Iterator<Item = Range<u64>>,
    used: &[Range<u64>],
) -> Range<u64> {
    let start = image_end.next_multiple_of(PAGE);
    let end = start.saturating_add((vcpus as u64).saturating_sub(1).saturating_mul(AREA));
    let overlaps = |range: &Range<u64>| range.start < end && start < range.end;
    let in_ram = ram.any(|bank| bank.start <= start && end <= bank.end);
    if in_ram && !used.iter().any(overlaps) { start..end } else { start..start }
}

/// One vCPU's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Area {
    /// The page that is not mapped.
    pub(super) guard: Range<u64>,
    /// Both stacks, the one for exceptions above the other.
    pub(super) stacks: Range<u64>,
}

impl Area {
    /// That of a vCPU, which counts from 1.
    pub(super) fn of(all: &Range<u64>, vcpu: u32) -> Option<Area> {
        let start = all.start.checked_add(u64::from(vcpu.checked_sub(1)?) * AREA)?;
        let end = start.checked_add(AREA).filter(|&end| end <= all.end)?;
        Some(Area { guard: start..start + PAGE, stacks: start + PAGE..end })
    }

    /// The highest address of the stack for exceptions, where it begins.
    pub(super) fn exception_stack(&self) -> u64 {
        self.stacks.end
    }

    /// The same of the other.
    pub(super) fn stack(&self) -> u64 {
        self.stacks.end - EXCEPTION_STACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: Range<u64> = 0x4000_0000..0x4080_0000;

    fn of(vcpus: usize, used: Range<u64>) -> Range<u64> {
        behind(0x4009_3210, vcpus, [RAM].into_iter(), &[used])
    }

    #[test]
    fn one_vcpu_costs_nothing() {
        assert!(of(1, 0..0).is_empty());
    }

    #[test]
    fn areas_are_apart_and_fill_the_range() {
        let all = of(8, 0x407F_0000..RAM.end);
        assert_eq!(all, 0x4009_4000..0x4009_4000 + 7 * AREA);
        let areas: Vec<Area> = (1..8).map(|vcpu| Area::of(&all, vcpu).unwrap()).collect();
        let mut end = all.start;
        for area in areas {
            assert_eq!((area.guard.start, area.guard.end), (end, area.stacks.start));
            assert!(area.stacks.contains(&area.stack()));
            end = area.exception_stack();
        }
        assert_eq!(end, all.end);
        assert_eq!((Area::of(&all, 0), Area::of(&all, 8)), (None, None));
    }

    #[test]
    fn nothing_is_overwritten() {
        assert!(of(8, 0x400A_0000..0x400B_0000).is_empty());
        assert!(behind(RAM.end - 0x1000, 2, [RAM].into_iter(), &[]).is_empty());
    }
}
