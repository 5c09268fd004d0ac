//! The 2-level event ABI (public/event_channel.h, public/xen.h): a bit for each port in the shared
//! page, and for each vCPU a selector word with a bit for each word of those, and an upcall byte.
//!
//! The guest looks in the opposite order: it clears the upcall byte, takes the selector, then looks
//! for ports that are pending and not masked. Each step here is taken only if the one before it
//! changed something: whoever changed it first has taken the next step, or will.

use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

use abi::Port;
use abi::shared_info::{PortBit, SharedInfo, VcpuInfo};

use super::pending_bit::Marked;
use super::upcall::{self, Effect};
use super::word::SharedWord;
use crate::allocator::vcpu::InfoPlace;
use crate::machine::memory::RamFrame;

/// The word of the shared page that says which ports are pending.
#[inline(always)]
pub(super) fn pending(shared: &RamFrame, bit: PortBit) -> &AtomicU64 {
    shared.u64(offset_of!(SharedInfo, pending) + bit.word * size_of::<u64>())
}

/// The word of the shared page that says which ports are masked.
#[inline(always)]
pub(super) fn mask(shared: &RamFrame, bit: PortBit) -> &AtomicU64 {
    shared.u64(offset_of!(SharedInfo, mask) + bit.word * size_of::<u64>())
}

fn selector(info: &InfoPlace) -> &AtomicU64 {
    info.frame.u64(info.offset + offset_of!(VcpuInfo, pending_selector))
}

/// Makes a port pending.
#[inline(always)]
pub(super) fn mark<W: SharedWord<Value = u64>>(pending: &W, mask: &W, bit: PortBit) -> Marked {
    if pending.set(bit.mask) & bit.mask != 0 {
        return Marked::Before;
    }
    Marked::Now { masked: mask.load() & bit.mask != 0 }
}

/// Tells the vCPU whose record is at `info` that a port, which is not masked, is pending.
#[inline(always)]
pub(super) fn announce(info: Option<InfoPlace>, port: Port) -> Effect {
    PortBit::of(port).map_or(Effect::None, |bit| look_at(info, 1 << bit.word))
}

/// Unmasks a port. If it is pending, its vCPU is told now.
pub(super) fn unmask(shared: RamFrame, info: Option<InfoPlace>, port: Port) -> Effect {
    let Some(bit) = PortBit::of(port) else { return Effect::None };
    match is_due_unmasked(mask(&shared, bit), pending(&shared, bit), bit.mask) {
        true => look_at(info, 1 << bit.word),
        false => Effect::None,
    }
}

/// Tells a vCPU to look at some words of the pending array. Without a record it is told to look at
/// everything once it registers one.
#[inline(always)]
pub(super) fn look_at(info: Option<InfoPlace>, words: u64) -> Effect {
    info.map_or(Effect::None, |info| select(selector(&info), upcall::byte(&info), words))
}

/// Unmasks a port. Returns whether it was masked and is pending: then nobody has told its vCPU.
pub(super) fn is_due_unmasked<W: SharedWord<Value = u64>>(mask: &W, pending: &W, bit: u64) -> bool {
    mask.clear(bit) & bit != 0 && pending.load() & bit != 0
}

#[inline(always)]
pub(super) fn select(
    selector: &impl SharedWord<Value = u64>,
    upcall_pending: &impl SharedWord<Value = u8>,
    words: u64,
) -> Effect {
    if selector.set(words) & words == words { Effect::None } else { upcall::raise(upcall_pending) }
}
