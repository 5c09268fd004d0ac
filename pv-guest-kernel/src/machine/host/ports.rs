//! A domain's event channels, and how they are announced: the 2-level ABI.

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use abi::shared_info::{PortBit, SharedInfo, VcpuInfo};
use abi::{DomId, Errno, Port};

use crate::event::Pages;
use crate::shared::SharedPage;

/// A domain's ports.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// From port 1.
    ports: Vec<PortState>,
    /// Where they are announced.
    pub(super) pages: Option<Pages>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortState {
    Closed,
    /// This domain may bind to it.
    Unbound(DomId),
    Bound(DomId, Port),
}

/// Fresh pages, with the time of day.
pub(super) fn pages() -> Result<Pages, Errno> {
    let (shared_info, vcpu_info) = (SharedPage::allocate()?, SharedPage::allocate()?);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    shared_info.store_u32(offset_of!(SharedInfo, wallclock_seconds), seconds, Ordering::Relaxed);
    Ok(Pages { shared_info, vcpu_info })
}

impl Ports {
    /// The first free port, which takes that state.
    pub(super) fn open_new(&mut self, state: PortState) -> Port {
        let free = self.ports.iter().position(|&state| state == PortState::Closed);
        let index = free.unwrap_or(self.ports.len());
        if index == self.ports.len() {
            self.ports.push(state);
        }
        self.ports[index] = state;
        Port(index as u32 + 1)
    }

    pub(super) fn state(&self, port: Port) -> PortState {
        let index = (port.0 as usize).wrapping_sub(1);
        self.ports.get(index).copied().unwrap_or(PortState::Closed)
    }

    pub(super) fn set(&mut self, port: Port, state: PortState) {
        if let Some(place) = self.ports.get_mut((port.0 as usize).wrapping_sub(1)) {
            *place = state;
        }
    }

    /// How many are not closed.
    pub(super) fn open(&self) -> usize {
        self.ports.iter().filter(|&&state| state != PortState::Closed).count()
    }

    pub(super) fn is_announced(&self) -> bool {
        let flag = offset_of!(VcpuInfo, upcall_pending);
        let is_set = |pages: &Pages| pages.vcpu_info.load_u8(flag, Ordering::Acquire) != 0;
        self.pages.as_ref().is_some_and(is_set)
    }

    /// Sets a port pending.
    pub(super) fn announce(&self, port: Port) {
        let (Some(pages), Some(bit)) = (&self.pages, PortBit::of(port)) else { return };
        let pending = offset_of!(SharedInfo, pending) + bit.word * size_of::<u64>();
        pages.shared_info.fetch_or_u64(pending, bit.mask, Ordering::AcqRel);
        let selector = offset_of!(VcpuInfo, pending_selector);
        pages.vcpu_info.fetch_or_u64(selector, 1 << bit.word, Ordering::AcqRel);
        pages.vcpu_info.store_u8(offset_of!(VcpuInfo, upcall_pending), 1, Ordering::Release);
    }

    /// Whoever gets the port next must not get its events.
    pub(super) fn clear_pending(&self, port: Port) {
        let (Some(pages), Some(bit)) = (&self.pages, PortBit::of(port)) else { return };
        let pending = offset_of!(SharedInfo, pending) + bit.word * size_of::<u64>();
        pages.shared_info.fetch_and_u64(pending, !bit.mask, Ordering::AcqRel);
    }
}
