//! The FIFO event ABI (public/event_channel.h): a word for each port, and for each vCPU sixteen
//! queues of ports, one for each priority, linked through those words.
//!
//! The monitor appends to a queue, the guest takes from its head. Both change words at the same
//! time, by atomic steps.

use crate::layout;

/// Bits of a word that name the next port in its queue; zero is none.
pub const LINK_BITS: u32 = 17;
/// Those bits.
pub const LINK_MASK: u32 = (1 << LINK_BITS) - 1;
/// Ports that there can be.
pub const PORTS: u32 = 1 << LINK_BITS;

/// An event is pending. The monitor sets it, the guest clears it.
pub const PENDING: u32 = 1 << 31;
/// Do not deliver. The guest's, but that the monitor clears it to unmask.
pub const MASKED: u32 = 1 << 30;
/// The port is in a queue. The monitor sets it, the guest clears it, and the link with it.
pub const LINKED: u32 = 1 << 29;
/// The monitor is changing the link: the guest must not unmask the port by itself.
pub const BUSY: u32 = 1 << 28;

/// Words in a page of the array.
pub const WORDS_PER_PAGE: u32 = 1024;
/// Pages of a full array.
pub const MAX_PAGES: usize = (PORTS / WORDS_PER_PAGE) as usize;

/// Queues of a vCPU. 0 is served first.
pub const PRIORITIES: usize = 16;
/// The priority of a port until it is given another.
pub const DEFAULT_PRIORITY: u8 = 7;

/// A vCPU's queues.
#[derive(Debug)]
#[repr(C)]
pub struct ControlBlock {
    /// Bit n: the queue of priority n has become non-empty.
    pub ready: u32,
    reserved: u32,
    /// The first port of each queue.
    pub head: [u32; PRIORITIES],
}
layout!(ControlBlock, 72, ready @ 0, head @ 8);
