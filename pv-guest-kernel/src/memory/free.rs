//! Which RAM is unused at boot.

use core::ops::Range;

/// The most gaps that are told apart; further ones stay unused.
const MAX_GAPS: usize = 16;

/// The parts of `banks` that lie in none of `used`, whole pages only.
pub(crate) fn gaps(
    banks: impl Iterator<Item = Range<u64>>,
    used: &mut [Range<u64>],
) -> heapless::Vec<Range<u64>, MAX_GAPS> {
    used.sort_unstable_by_key(|range| range.start);
    let mut gaps = heapless::Vec::new();
    for bank in banks {
        let mut start = bank.start;
        for range in used.iter() {
            push(&mut gaps, start..range.start.min(bank.end));
            start = start.max(range.end);
        }
        push(&mut gaps, start..bank.end);
    }
    gaps
}

fn push(gaps: &mut heapless::Vec<Range<u64>, MAX_GAPS>, gap: Range<u64>) {
    let page = abi::PAGE_SIZE as u64;
    let (start, end) = (gap.start.next_multiple_of(page), gap.end / page * page);
    if start < end {
        // A gap more than fit is memory lost, nothing worse.
        let _ = gaps.push(start..end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gaps_are_exactly_what_is_not_used(
            banks in prop::collection::vec(1u64..64, 1..3),
            used in prop::collection::vec((0u64..200 * 4096, 1u64..9 * 4096), 0..5),
        ) {
            let mut next = 0;
            let banks: Vec<Range<u64>> = banks.iter().map(|&pages| {
                let start = next + 3 * 4096;
                next = start + pages * 4096;
                start..next
            }).collect();
            let mut used: Vec<Range<u64>> =
                used.iter().map(|&(start, size)| start..start + size).collect();
            let gaps = gaps(banks.iter().cloned(), &mut used);
            for page in (0..next).step_by(4096) {
                let in_bank = banks.iter().any(|bank| bank.contains(&page));
                let in_use = used.iter().any(|range| range.start < page + 4096 && page < range.end);
                let in_gap = gaps.iter().filter(|gap| gap.contains(&page)).count();
                prop_assert_eq!(in_gap, usize::from(in_bank && !in_use));
            }
        }
    }
}
