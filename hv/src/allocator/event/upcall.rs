//! The byte by which a vCPU is told to look for events, whichever ABI says what is pending
//! (`evtchn_upcall_pending`, public/xen.h). The guest clears it before it looks.

use core::mem::offset_of;
use core::sync::atomic::AtomicU8;

use abi::PAGE_SIZE;
use abi::shared_info::VcpuInfo;

use super::word::SharedWord;
use crate::allocator::vcpu::InfoPlace;

/// Whether a vCPU must be interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// No: nothing changed, or it has an upcall coming.
    None,
    /// Yes.
    Upcall,
}

/// The byte in the record at `info`.
#[inline(always)]
pub(super) fn byte(info: &InfoPlace) -> &AtomicU8 {
    // The record ends in its frame.
    info.frame.u8((info.offset + offset_of!(VcpuInfo, upcall_pending)) % PAGE_SIZE)
}

/// Tells a vCPU to look. One that was told so and has not looked yet needs no interrupt.
#[inline(always)]
pub(super) fn raise(byte: &impl SharedWord<Value = u8>) -> Effect {
    match byte.swap(1) {
        0 => Effect::Upcall,
        _ => Effect::None,
    }
}

/// Tells the vCPU whose record is at `info` to look. Without a record it is told so once it has
/// registered one.
pub(super) fn raise_at(info: Option<InfoPlace>) -> Effect {
    info.map_or(Effect::None, |info| raise(byte(&info)))
}

/// Tells a vCPU again that was told to look, and has not looked yet.
pub(super) fn repeat(info: Option<InfoPlace>) -> Effect {
    match info {
        Some(info) if SharedWord::load(byte(&info)) != 0 => Effect::Upcall,
        _ => Effect::None,
    }
}
