//! Ports for connections that begin at this end.

/// The first of those that nobody listens on (RFC 6335, section 6).
const FIRST: u16 = 49152;

/// Gives them out in turn: none comes again for long.
#[derive(Debug)]
pub(super) struct Ports {
    next: u16,
}

impl Ports {
    /// Begins somewhere: a peer may remember connections of the kernel that had our address before.
    pub(super) fn new(seed: u64) -> Ports {
        let range = u64::from(u16::MAX - FIRST);
        let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Ports { next: FIRST + (spread % range) as u16 }
    }

    /// One that no connection of ours was given for long.
    pub(super) fn take(&mut self) -> u16 {
        let port = self.next;
        self.next = port.checked_add(1).unwrap_or(FIRST);
        port
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_come_before_one_comes_again() {
        for seed in [0, 1, 1 << 40, u64::MAX] {
            let mut ports = Ports::new(seed);
            let count = usize::from(u16::MAX - FIRST) + 1;
            let taken: BTreeSet<u16> = (0..count).map(|_| ports.take()).collect();
            assert_eq!((taken.len(), taken.first()), (count, Some(&FIRST)));
        }
    }
}
