//! The shared request/response ring of split drivers (public/io/ring.h).
//!
//! One page, or several that count as one piece of memory: a header of four indices, then a
//! power-of-two number of slots. Requests and responses share the slots: a response reuses the slot of a request that was consumed before. Indices run
//! freely and are masked; the `*_event` index is the other side's way to say "notify me when you
//! pass this", so that a busy ring needs no notifications at all.
//!
//! ```text
//!   0 request producer     (written by the front)
//!   4 request event        (written by the back)
//!   8 response producer    (written by the back)
//!  12 response event       (written by the front)
//!  64 slots, each the larger of request and response
//! ```
//!
//! The peer writes the page at any moment and may lie. So each half keeps its own indices private,
//! reads of the memory only the peer's producer (checked against what is possible) and event index
//! (which can at worst cost the peer a notification), and copies each slot exactly once.
//!
//! There is nothing unsafe here: the page is reached through [`SharedMemory`], whose accessors move
//! words by value.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{Ordering, fence};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::PAGE_SIZE;

mod back;
mod front;
#[cfg(test)]
mod tests;

pub use back::BackRing;
pub use front::FrontRing;

/// Bytes before the first slot.
const HEADER_SIZE: usize = 64;
/// Pages of the largest ring.
pub const MAX_PAGES: usize = 16;
/// Bytes moved by one access.
const WORD_SIZE: usize = size_of::<u32>();

/// Pages that another domain may read and write at any moment.
pub trait SharedMemory {
    /// How many there are: a ring has as many slots as fit.
    fn pages(&self) -> usize {
        1
    }
    /// Reads the aligned word at `offset` bytes with one relaxed atomic access.
    fn load(&self, offset: usize) -> u32;
    /// Writes the aligned word at `offset` bytes with one relaxed atomic access.
    fn store(&self, offset: usize, value: u32);
    /// Copies a whole number of words out, each byte once.
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (word, offset) in bytes.chunks_exact_mut(WORD_SIZE).zip((offset..).step_by(WORD_SIZE)) {
            word.copy_from_slice(self.load(offset).as_bytes());
        }
    }
    /// Copies a whole number of words in.
    fn write(&self, offset: usize, bytes: &[u8]) {
        for (word, offset) in bytes.chunks_exact(WORD_SIZE).zip((offset..).step_by(WORD_SIZE)) {
            self.store(offset, u32::read_from_bytes(word).unwrap_or_default());
        }
    }
    /// Orders accesses to the page. Only a model of memory has a reason to provide its own.
    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

/// What fits in a slot: plain data, a whole number of words long.
pub trait Message: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Message for T {}

/// Why a ring operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// Every slot holds a request that is not yet answered.
    Full,
    /// Every request that was taken has been answered.
    NothingToAnswer,
    /// The peer claims to have produced more than can be: it is broken or hostile.
    PeerIndex {
        /// The peer's producer index.
        produced: u32,
        /// This side's consumer index.
        consumed: u32,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Full => f.write_str("the ring is full"),
            RingError::NothingToAnswer => f.write_str("no request waits for a response"),
            RingError::PeerIndex { produced, consumed } => write!(
                f,
                "the peer's producer index {produced:#x} is impossible (consumed: {consumed:#x})"
            ),
        }
    }
}

impl core::error::Error for RingError {}

/// The indices in the page, by byte offset.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
enum Index {
    RequestProducer = 0,
    RequestEvent = 4,
    ResponseProducer = 8,
    ResponseEvent = 12,
}

/// The page seen as a ring: geometry and access, the same for both halves.
#[derive(Debug)]
struct Page<M, Request, Response> {
    memory: M,
    /// Slots in the memory, less one: what masks an index.
    mask: u32,
    messages: PhantomData<(Request, Response)>,
}

impl<M: SharedMemory, Request: Message, Response: Message> Page<M, Request, Response> {
    /// Bytes from one slot to the next. Evaluating it rejects messages that are not whole words.
    const STRIDE: usize = {
        let (request, response) = (size_of::<Request>(), size_of::<Response>());
        assert!(request.is_multiple_of(WORD_SIZE) && response.is_multiple_of(WORD_SIZE));
        if request > response { request } else { response }
    };

    /// Slots in one page.
    const SLOTS: u32 = Self::slots_in(1);

    /// Slots in so many pages: the largest power of two that fits.
    const fn slots_in(pages: usize) -> u32 {
        1 << ((PAGE_SIZE * pages - HEADER_SIZE) / Self::STRIDE).ilog2()
    }

    fn new(memory: M) -> Self {
        let mask = Self::slots_in(memory.pages().clamp(1, MAX_PAGES)) - 1;
        Page { memory, mask, messages: PhantomData }
    }

    fn slots(&self) -> u32 {
        self.mask + 1
    }

    fn load(&self, index: Index) -> u32 {
        self.memory.load(index as usize)
    }

    fn store(&self, index: Index, value: u32) {
        self.memory.store(index as usize, value);
    }

    /// Byte offset of the slot that a free-running index names. Always inside the memory.
    fn slot(&self, index: u32) -> usize {
        HEADER_SIZE + (index & self.mask) as usize * Self::STRIDE
    }

    /// Copies a message out of its slot; what the peer does to the slot afterwards is not seen.
    fn read_slot<T: Message>(&self, index: u32) -> T {
        let mut message = T::new_zeroed();
        self.memory.read(self.slot(index), message.as_mut_bytes());
        message
    }

    fn write_slot<T: Message>(&self, index: u32, message: &T) {
        self.memory.write(self.slot(index), message.as_bytes());
    }

    /// Moves a producer index from `old` to `new` and returns whether the peer asked to be
    /// notified of one of the messages in between.
    fn publish(&self, producer: Index, event: Index, old: u32, new: u32) -> bool {
        // The messages must be visible before the index that announces them.
        self.memory.fence(Ordering::Release);
        self.store(producer, new);
        // The index must be visible before the event is read. The peer does the mirror image in
        // `final_check`: of the two, at least one sees what the other wrote.
        self.memory.fence(Ordering::SeqCst);
        new.wrapping_sub(self.load(event)) < new.wrapping_sub(old)
    }

    /// How many messages lie between this side's consumer and the peer's producer index, if that
    /// is at most `limit`.
    fn available(&self, producer: Index, consumed: u32, limit: u32) -> Result<u32, RingError> {
        let produced = self.load(producer);
        // The messages must not be read before the index that announced them.
        self.memory.fence(Ordering::Acquire);
        let available = produced.wrapping_sub(consumed);
        if available > limit {
            return Err(RingError::PeerIndex { produced, consumed });
        }
        Ok(available)
    }

    /// Asks the peer to notify of its next message.
    fn arm(&self, event: Index, consumed: u32) {
        self.store(event, consumed.wrapping_add(1));
        self.memory.fence(Ordering::SeqCst);
    }
}
