//! The heaps of deadlines against a sorted set.

use std::collections::BTreeMap;

use abi::{DomId, VcpuId};
use proptest::prelude::*;

use crate::allocator::scheduler::deadlines::Deadlines;
use crate::allocator::scheduler::slots::Slot;
use crate::types::{CpuId, Ticks, VcpuKey};

const CPU: CpuId = CpuId(1);

fn slot(number: u16) -> Slot {
    let key = VcpuKey { domain: DomId(number / 8), vcpu: VcpuId(u32::from(number % 8)) };
    Slot::of(key).unwrap()
}

proptest! {
    #[test]
    fn the_earliest_comes_first(
        steps in proptest::collection::vec((0..40u16, proptest::option::of(0..1000u64)), 0..300)
    ) {
        let mut deadlines = Deadlines::new();
        let mut model = BTreeMap::new();
        for (number, at) in steps {
            deadlines.cancel(slot(number));
            model.remove(&number);
            if let Some(at) = at {
                deadlines.set(CPU, slot(number), Ticks(at));
                model.insert(number, at);
            }
            let earliest = model.values().min().copied().map_or(Ticks::NEVER, Ticks);
            prop_assert_eq!(deadlines.first(CPU), earliest);
        }
        let mut left: Vec<u64> = model.values().copied().collect();
        left.sort_unstable();
        for at in left {
            prop_assert!(at == 0 || deadlines.take_due(CPU, Ticks(at - 1)).is_none());
            let due = deadlines.take_due(CPU, Ticks(at));
            let mut same = model.iter().filter(|(_, when)| **when == at);
            let is_one_of_them = same.any(|(&number, _)| Some(slot(number)) == due);
            prop_assert!(is_one_of_them, "not due at {}", at);
        }
        prop_assert_eq!(deadlines.first(CPU), Ticks::NEVER);
    }
}
