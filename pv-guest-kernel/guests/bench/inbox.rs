//! The words in which the monitor announces one port's events, cleared by hand: the kernel's library
//! clears them between tasks, which is too late for a handler.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::shared_info::{PortBit, SharedInfo, VcpuInfo};
use pv_guest_kernel::abi::{Errno, Port};
use pv_guest_kernel::event::{self, Pages};

/// Where events of one port arrive.
#[derive(Debug)]
pub struct Inbox {
    pages: Pages,
    place: PortBit,
}

impl Inbox {
    /// That of a port.
    ///
    /// # Errors
    /// There is no such port.
    pub fn of(port: Port) -> Result<Inbox, Errno> {
        let pages = event::pages().ok_or(Errno::ENODEV)?;
        Ok(Inbox { pages, place: PortBit::of(port).ok_or(Errno::EINVAL)? })
    }

    /// Whether an event is pending.
    pub fn is_pending(&self) -> bool {
        let word = self.pages.shared_info.load_u64(self.pending(), Ordering::Relaxed);
        word & self.place.mask != 0
    }

    /// Forgets all events of the port's word, so that the next one interrupts.
    #[inline(always)]
    pub fn clear(&self) {
        let vcpu_info = &self.pages.vcpu_info;
        vcpu_info.store_u8(offset_of!(VcpuInfo, upcall_pending), 0, Ordering::Relaxed);
        vcpu_info.store_u64(offset_of!(VcpuInfo, pending_selector), 0, Ordering::Relaxed);
        self.pages.shared_info.store_u64(self.pending(), 0, Ordering::Relaxed);
    }

    /// Lets the port's events interrupt, or not. Only this domain writes that.
    pub fn set_masked(&self, masked: bool) {
        let offset = offset_of!(SharedInfo, mask) + self.offset();
        let others = self.pages.shared_info.load_u64(offset, Ordering::Relaxed) & !self.place.mask;
        let own = if masked { self.place.mask } else { 0 };
        self.pages.shared_info.store_u64(offset, others | own, Ordering::Relaxed);
    }

    fn pending(&self) -> usize {
        offset_of!(SharedInfo, pending) + self.offset()
    }

    fn offset(&self) -> usize {
        self.place.word * size_of::<u64>()
    }
}
