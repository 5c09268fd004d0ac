//! The bit that says that a port is pending: where it lies, and what it takes to set it.

use abi::Port;
use abi::event::fifo::PENDING;
use abi::shared_info::{PortBit, TWO_LEVEL_PORTS};

use super::word::SharedWord;
use super::{fifo, two_level};
use crate::machine::memory::RamFrame;

/// Where the bit lies that says that a port is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PendingBit {
    /// Nowhere: there is no such port, or the guest has not given the page with its word yet.
    #[default]
    Nowhere,
    /// In the shared page, at the place that the 2-level ABI says.
    TwoLevel { shared: RamFrame, port: u16 },
    /// In an event word of the FIFO ABI.
    Fifo { page: RamFrame, word: u16 },
}

/// What came of making a port pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    /// It was so already: whoever made it so has seen to the rest.
    Before,
    /// It is to be announced, to its vCPU too unless it is `masked`.
    Now {
        /// Whether only those who poll may hear of it.
        masked: bool,
    },
    /// There is no bit.
    Nowhere,
}

impl PendingBit {
    /// Where the 2-level ABI has it.
    pub(super) fn two_level(shared: RamFrame, port: Port) -> PendingBit {
        match u16::try_from(port.0) {
            Ok(number) if port.0 < TWO_LEVEL_PORTS => PendingBit::TwoLevel { shared, port: number },
            _ => PendingBit::Nowhere,
        }
    }

    /// Makes the port pending.
    #[inline(always)]
    pub(super) fn set(self) -> Marked {
        match self {
            PendingBit::TwoLevel { shared, port } => {
                let bit = port_bit(port);
                two_level::mark(
                    two_level::pending(&shared, bit),
                    two_level::mask(&shared, bit),
                    bit,
                )
            }
            PendingBit::Fifo { page, word } => fifo::mark(fifo::word(&page, word)),
            PendingBit::Nowhere => Marked::Nowhere,
        }
    }

    /// Whether the port is pending.
    pub(super) fn is_set(self) -> bool {
        match self {
            PendingBit::TwoLevel { shared, port } => {
                let bit = port_bit(port);
                SharedWord::load(two_level::pending(&shared, bit)) & bit.mask != 0
            }
            PendingBit::Fifo { page, word } => {
                SharedWord::load(fifo::word(&page, word)) & PENDING != 0
            }
            PendingBit::Nowhere => false,
        }
    }

    /// Forgets that the port is pending. Returns whether it was.
    pub(super) fn take(self) -> bool {
        match self {
            PendingBit::TwoLevel { shared, port } => {
                let bit = port_bit(port);
                two_level::pending(&shared, bit).clear(bit.mask) & bit.mask != 0
            }
            PendingBit::Fifo { page, word } => {
                fifo::word(&page, word).clear(PENDING) & PENDING != 0
            }
            PendingBit::Nowhere => false,
        }
    }
}

#[inline(always)]
fn port_bit(port: u16) -> PortBit {
    let number = u32::from(port);
    PortBit { word: (number / 64 % 64) as usize, mask: 1 << (number % 64) }
}
