//! Where the monitor itself lies.

use core::ops::Range;

/// Where the monitor lies in memory.
#[derive(Debug, Clone)]
pub struct Image {
    /// All of it, stacks included.
    pub all: Range<u64>,
    /// Its instructions.
    pub code: Range<u64>,
    /// Its constants.
    pub constants: Range<u64>,
    /// Its table of symbols (inside the constants).
    pub symbols: Range<u64>,
}
