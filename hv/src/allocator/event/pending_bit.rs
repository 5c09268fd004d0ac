//! The bit that says that a port is pending, whichever ABI its domain has: where it lies, and what
//! it takes to set it.

use core::sync::atomic::AtomicU32;

use abi::Port;
use abi::event::fifo::{MASKED, PENDING};

use super::news::News;
use super::two_level::Bit;
use super::word::SharedWord;
use super::{fifo, two_level};
use crate::machine::memory::RamFrame;

/// Where the bit lies that says that a port is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PendingBit {
    /// In the shared page, at the place that the 2-level ABI says.
    TwoLevel { shared: RamFrame, offset: u16, mask: u32 },
    /// In an event word of the FIFO ABI.
    Fifo { page: RamFrame, offset: u16 },
    /// Nowhere: there is no such port, or the guest has not given the page with its word yet.
    #[default]
    Nowhere,
}

impl PendingBit {
    /// Where the 2-level ABI has it.
    pub(super) fn two_level(shared: RamFrame, port: Port) -> PendingBit {
        match Bit::of(port) {
            Some(Bit { offset, mask }) => PendingBit::TwoLevel { shared, offset, mask },
            None => PendingBit::Nowhere,
        }
    }

    /// Where the FIFO ABI has it.
    pub(super) fn fifo(word: Option<fifo::WordPlace>) -> PendingBit {
        match word {
            Some(fifo::WordPlace { page, offset }) => PendingBit::Fifo { page, offset },
            None => PendingBit::Nowhere,
        }
    }

    /// Makes the port pending. No news if it was so: whoever made it so has seen to the rest.
    #[inline(always)]
    pub(super) fn set(self) -> Option<News> {
        match self {
            PendingBit::TwoLevel { shared, offset, mask } => {
                let bit = Bit { offset, mask };
                two_level::mark(bit.pending(&shared), bit.mask(&shared), mask)
            }
            PendingBit::Fifo { page, offset } => fifo::mark(fifo::word_at(&page, offset)),
            PendingBit::Nowhere => Some(News::Unheard),
        }
    }

    /// Whether the port is pending.
    pub(super) fn is_set(self) -> bool {
        self.access(|word, bit| SharedWord::load(word) & bit != 0)
    }

    /// Whether the port is masked.
    pub(super) fn is_masked(self) -> bool {
        match self {
            PendingBit::TwoLevel { shared, offset, mask } => {
                SharedWord::load(Bit { offset, mask }.mask(&shared)) & mask != 0
            }
            PendingBit::Fifo { page, offset } => {
                SharedWord::load(fifo::word_at(&page, offset)) & MASKED != 0
            }
            PendingBit::Nowhere => false,
        }
    }

    /// Forgets that the port is pending. Returns whether it was.
    pub(super) fn take(self) -> bool {
        self.access(|word, bit| word.clear(bit) & bit != 0)
    }

    /// False if there is no bit.
    fn access(self, access: impl FnOnce(&AtomicU32, u32) -> bool) -> bool {
        match self {
            PendingBit::TwoLevel { shared, offset, mask } => {
                access(Bit { offset, mask }.pending(&shared), mask)
            }
            PendingBit::Fifo { page, offset } => access(fifo::word_at(&page, offset), PENDING),
            PendingBit::Nowhere => false,
        }
    }
}
