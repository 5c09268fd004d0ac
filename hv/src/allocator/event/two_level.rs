//! The 2-level event ABI (public/event_channel.h, public/xen.h): a bit for each port in the shared
//! page, and for each vCPU a selector word with a bit for each word of those, and an upcall byte.
//!
//! The guest looks in the opposite order: it clears the upcall byte, takes the selector, then looks
//! for ports that are pending and not masked. Each step here is taken only if the one before it
//! changed something: whoever changed it first has taken the next step, or will.
//!
//! All accesses are atomic and sequentially consistent: the guest clears a mask bit and then looks
//! at the pending bit, while the monitor sets the pending bit and then looks at the mask.

use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU8, AtomicU64};

use abi::Port;
use abi::shared_info::{PortBit, SharedInfo, VcpuInfo};

use crate::allocator::vcpu::InfoPlace;
use crate::machine::memory::RamFrame;

/// Whether a vCPU must be interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// No: nothing changed, or it has an upcall coming.
    None,
    /// Yes.
    Upcall,
}

fn pending(shared: &RamFrame, bit: PortBit) -> &AtomicU64 {
    shared.u64(offset_of!(SharedInfo, pending) + bit.word * size_of::<u64>())
}

fn mask(shared: &RamFrame, bit: PortBit) -> &AtomicU64 {
    shared.u64(offset_of!(SharedInfo, mask) + bit.word * size_of::<u64>())
}

fn selector(info: &InfoPlace) -> &AtomicU64 {
    info.frame.u64(info.offset + offset_of!(VcpuInfo, pending_selector))
}

fn upcall_pending(info: &InfoPlace) -> &AtomicU8 {
    info.frame.u8(info.offset + offset_of!(VcpuInfo, upcall_pending))
}

/// Makes a port pending. Returns whether it was not before: then it must be announced, unless it
/// is masked.
#[inline(always)]
pub(super) fn set_pending(shared: RamFrame, port: Port) -> bool {
    PortBit::of(port)
        .is_some_and(|bit| pending(&shared, bit).fetch_or(bit.mask, SeqCst) & bit.mask == 0)
}

/// Whether a port is masked.
#[inline(always)]
pub(super) fn is_masked(shared: RamFrame, port: Port) -> bool {
    PortBit::of(port).is_some_and(|bit| mask(&shared, bit).load(SeqCst) & bit.mask != 0)
}

/// Tells the vCPU whose record is at `info` that a port, which is not masked, became pending.
#[inline(always)]
pub(super) fn announce(info: Option<InfoPlace>, port: Port) -> Effect {
    PortBit::of(port).map_or(Effect::None, |bit| select(info, 1 << bit.word))
}

/// Unmasks a port. If it is pending, its vCPU is told now.
pub(super) fn unmask(shared: RamFrame, info: Option<InfoPlace>, port: Port) -> Effect {
    let Some(bit) = PortBit::of(port) else { return Effect::None };
    let was_masked = mask(&shared, bit).fetch_and(!bit.mask, SeqCst) & bit.mask != 0;
    if was_masked && is_pending(shared, port) { select(info, 1 << bit.word) } else { Effect::None }
}

/// Whether a port is pending.
pub(super) fn is_pending(shared: RamFrame, port: Port) -> bool {
    PortBit::of(port).is_some_and(|bit| pending(&shared, bit).load(SeqCst) & bit.mask != 0)
}

/// Forgets that a port is pending.
pub(super) fn clear_pending(shared: RamFrame, port: Port) {
    if let Some(bit) = PortBit::of(port) {
        pending(&shared, bit).fetch_and(!bit.mask, SeqCst);
    }
}

/// Tells a vCPU again that was told to look, and has not looked yet.
pub(super) fn repeat(info: Option<InfoPlace>) -> Effect {
    match info {
        Some(info) if upcall_pending(&info).load(SeqCst) != 0 => Effect::Upcall,
        _ => Effect::None,
    }
}

/// Tells a vCPU to look at some words of the pending array. Without a record it is told to look at
/// everything once it registers one.
#[inline(always)]
pub(super) fn select(info: Option<InfoPlace>, words: u64) -> Effect {
    let Some(info) = info else { return Effect::None };
    if selector(&info).fetch_or(words, SeqCst) & words == words {
        return Effect::None;
    }
    match upcall_pending(&info).swap(1, SeqCst) {
        0 => Effect::Upcall,
        _ => Effect::None,
    }
}
