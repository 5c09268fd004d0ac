//! The last of what a domain printed.

use alloc::collections::VecDeque;

/// Bytes that are kept for each domain.
const CAPACITY: usize = 16 << 10;

/// Keeps the newest [`CAPACITY`] bytes of a stream. Readers name bytes by their position in the
/// whole stream.
#[derive(Debug, Default)]
pub(super) struct History {
    bytes: VecDeque<u8>,
    /// Position of the first byte that is kept.
    start: u64,
}

impl History {
    /// Adds bytes at the end of the stream.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(CAPACITY);
        self.bytes.drain(..excess);
        self.start = self.start.saturating_add(excess as u64);
    }

    /// Copies bytes from `position` on, or from the oldest that is kept if that is gone already,
    /// and moves it behind them. Returns how many.
    pub(super) fn read(&self, position: &mut u64, bytes: &mut [u8]) -> usize {
        *position = (*position).max(self.start);
        let skip = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let mut count = 0;
        for (target, source) in bytes.iter_mut().zip(self.bytes.iter().skip(skip)) {
            *target = *source;
            count += 1;
        }
        *position = position.saturating_add(count as u64);
        count
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reader_gets_the_newest_bytes_in_order(
            steps in proptest::collection::vec((any::<bool>(), 0usize..6000), 1..40),
        ) {
            let (mut history, mut stream) = (History::default(), Vec::new());
            let mut position = 0;
            for (write, count) in steps {
                if write {
                    let bytes: Vec<u8> = (0..count).map(|n| (stream.len() + n) as u8).collect();
                    history.append(&bytes);
                    stream.extend(bytes);
                } else {
                    let mut bytes = vec![0; count];
                    let oldest = stream.len().saturating_sub(CAPACITY);
                    let from = usize::try_from(position).unwrap().max(oldest);
                    let read = history.read(&mut position, &mut bytes);
                    prop_assert_eq!(read, count.min(stream.len() - from));
                    prop_assert_eq!(&bytes[..read], &stream[from..from + read]);
                }
            }
        }
    }
}
