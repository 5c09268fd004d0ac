//! The 2-level event ABI (public/event_channel.h, public/xen.h): a bit for each port in the shared
//! page, and for each vCPU a selector word with a bit for each word of those, and an upcall byte.
//!
//! The guest looks in the opposite order: it clears the upcall byte, takes the selector, then looks
//! for ports that are pending and not masked. Each step here is taken only if the one before it
//! changed something: whoever changed it first has taken the next step, or will.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64};

use abi::shared_info::{SharedInfo, TWO_LEVEL_PORTS, VcpuInfo};
use abi::{PAGE_SIZE, Port};

use super::news::News;
use super::upcall::{self, Effect};
use super::word::SharedWord;
use crate::allocator::vcpu::InfoPlace;
use crate::machine::memory::RamFrame;

/// A port's bit in the shared page. The arrays are taken for words of 32 bits here: it makes no
/// difference to their bits, and a bit fits beside the place of its word in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bit {
    /// Where in the page the word is that says which ports are pending.
    pub(super) offset: u16,
    /// The bit, as a mask with one bit set.
    pub(super) mask: u32,
}

/// From such a word to the one that says which of its ports are masked.
const TO_MASK: usize = offset_of!(SharedInfo, mask) - offset_of!(SharedInfo, pending);

impl Bit {
    /// The place of `port`, or `None` if this ABI cannot name it.
    pub(super) fn of(port: Port) -> Option<Bit> {
        let word = (port.0 / u32::BITS) as usize;
        let offset = offset_of!(SharedInfo, pending) + word * size_of::<u32>();
        let bit = Bit { offset: u16::try_from(offset).ok()?, mask: 1 << (port.0 % u32::BITS) };
        (port.0 < TWO_LEVEL_PORTS).then_some(bit)
    }

    /// The word that says which ports are pending.
    #[inline(always)]
    pub(super) fn pending(self, shared: &RamFrame) -> &AtomicU32 {
        shared.u32(self.aligned_offset())
    }

    /// The word that says which ports are masked.
    #[inline(always)]
    pub(super) fn mask(self, shared: &RamFrame) -> &AtomicU32 {
        shared.u32(self.aligned_offset() + TO_MASK)
    }

    /// The offset, in a form of which the compiler sees that no access by it leaves the page.
    #[inline(always)]
    fn aligned_offset(self) -> usize {
        const { assert!(offset_of!(SharedInfo, mask) + TO_MASK <= PAGE_SIZE / 2) };
        usize::from(self.offset) % (PAGE_SIZE / 2) / size_of::<u32>() * size_of::<u32>()
    }
}

#[inline(always)]
fn selector(info: &InfoPlace) -> &AtomicU64 {
    // The record is aligned and ends in its frame.
    let offset = (info.offset + offset_of!(VcpuInfo, pending_selector)) % PAGE_SIZE;
    info.frame.u64(offset / size_of::<u64>() * size_of::<u64>())
}

/// Makes a port pending. No news if it was so.
#[inline(always)]
pub(super) fn mark<W: SharedWord<Value = u32>>(pending: &W, mask: &W, bit: u32) -> Option<News> {
    if pending.set(bit) & bit != 0 {
        return None;
    }
    Some(News::pending(mask.load() & bit != 0))
}

/// Tells the vCPU whose record is at `info` that a port, which is not masked, is pending.
#[inline(always)]
pub(super) fn announce(info: Option<InfoPlace>, port: Port) -> Effect {
    look_at(info, 1 << (port.0 / u64::BITS % u64::BITS))
}

/// Unmasks a port. Returns whether it was masked and is pending: then nobody has told its vCPU.
pub(super) fn unmask(shared: RamFrame, port: Port) -> bool {
    Bit::of(port).is_some_and(|bit| unmask_in(bit.mask(&shared), bit.pending(&shared), bit.mask))
}

/// The same, given the words and the bit.
pub(super) fn unmask_in<W: SharedWord<Value = u32>>(mask: &W, pending: &W, bit: u32) -> bool {
    mask.clear(bit) & bit != 0 && pending.load() & bit != 0
}

/// Tells a vCPU to look at some words of the pending array. Without a record it is told to look at
/// everything once it registers one.
#[inline(always)]
pub(super) fn look_at(info: Option<InfoPlace>, words: u64) -> Effect {
    info.map_or(Effect::None, |info| select(selector(&info), upcall::byte(&info), words))
}

#[inline(always)]
pub(super) fn select(
    selector: &impl SharedWord<Value = u64>,
    upcall_pending: &impl SharedWord<Value = u8>,
    words: u64,
) -> Effect {
    if selector.set(words) & words == words { Effect::None } else { upcall::raise(upcall_pending) }
}
