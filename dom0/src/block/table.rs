//! A table over a large range of numbers of which few are in use.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Entries that come into being together.
const LEAF: usize = 512;

/// Two levels: a leaf is there as soon as one of its entries was written.
#[derive(Debug)]
pub(super) struct Table<T> {
    leaves: Vec<Option<Box<[T]>>>,
    limit: usize,
}

impl<T: Default> Table<T> {
    /// A table for the numbers below `limit`.
    pub(super) fn new(limit: usize) -> Table<T> {
        Table { leaves: Vec::new(), limit }
    }

    /// What was written at `index`, if something near it was.
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.leaves.get(index / LEAF)?.as_ref()?.get(index % LEAF)
    }

    /// The entry at `index`, to be written; `None` beyond the limit.
    pub(super) fn entry(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.limit {
            return None;
        }
        if index / LEAF >= self.leaves.len() {
            self.leaves.resize_with(index / LEAF + 1, || None);
        }
        let empty = || core::iter::repeat_with(T::default).take(LEAF).collect();
        self.leaves.get_mut(index / LEAF)?.get_or_insert_with(empty).get_mut(index % LEAF)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(writes in prop::collection::vec((0..3000_usize, any::<u32>()), 0..100)) {
            let (mut table, mut model) = (Table::new(2500), BTreeMap::new());
            for (index, value) in writes {
                let entry = table.entry(index).map(|entry| *entry = value);
                prop_assert_eq!(entry.is_some(), index < 2500);
                if entry.is_some() {
                    model.insert(index, value);
                }
            }
            for index in 0..3000 {
                let expected = model.get(&index).copied().unwrap_or_default();
                prop_assert_eq!(table.get(index).copied().unwrap_or_default(), expected);
            }
        }
    }
}
