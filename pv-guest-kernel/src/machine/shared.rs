//! Memory that the monitor shares with this domain.

use alloc::sync::Arc;
use core::cell::OnceCell;
use core::ops::Range;
use core::ptr::NonNull;

use abi::memory::MapSpace;
use abi::vcpu::RegisterVcpuInfo;
use abi::{Errno, Gfn, PAGE_SIZE, VcpuId};

use crate::event::Pages;
use crate::hypercall;
use crate::shared::SharedPage;

crate::vcpu_local! {
    static GRANT_WINDOW: OnceCell<Range<u64>> = OnceCell::new();
}

/// Says where frames of the grant table are to be mapped.
pub(crate) fn set_grant_window(window: Range<u64>) {
    // It is set once, by boot.
    let _ = GRANT_WINDOW.with(|cell| cell.set(window));
}

/// Maps the shared-info page in place of one of our own, and registers where vCPU 0 learns of
/// events. Both stay for good.
pub(crate) fn event_pages() -> Result<Pages, Errno> {
    let shared_info = SharedPage::allocate()?;
    let vcpu_info = SharedPage::allocate()?;
    let place = RegisterVcpuInfo { gfn: vcpu_info.gfn(), offset: 0, padding: 0 };
    // SAFETY: both pages are used for nothing else, and never given back: `Pages` is kept.
    unsafe {
        hypercall::memory::add_to_physmap(MapSpace::SharedInfo, 0, shared_info.gfn())?;
        hypercall::vcpu::register_info(VcpuId(0), place)?;
    }
    Ok(Pages { shared_info, vcpu_info })
}

/// The number by which an entry of the grant table names a frame.
pub(crate) fn grantable_frame(gfn: Gfn) -> Result<u32, Errno> {
    u32::try_from(gfn.0).map_err(|_| Errno::EOVERFLOW)
}

/// Maps a frame of the grant table. It stays for good.
pub(crate) fn grant_frame(index: u32) -> Result<SharedPage, Errno> {
    let window = GRANT_WINDOW.with(|cell| cell.get().cloned()).ok_or(Errno::ENODEV)?;
    let offset = u64::from(index) * PAGE_SIZE as u64;
    if offset >= window.end - window.start {
        return Err(Errno::ENOSPC);
    }
    let address = window.start + offset;
    // SAFETY: the device tree keeps the window free for this.
    unsafe {
        hypercall::memory::add_to_physmap(
            MapSpace::GrantTable,
            index.into(),
            Gfn::containing(address),
        )?;
    }
    let start = NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize));
    let start = start.ok_or(Errno::EFAULT)?;
    // SAFETY: mapped just now, and never unmapped.
    Ok(unsafe { SharedPage::new(start, Arc::new(())) })
}

/// Where a grant is that was mapped: where it was to be.
pub(crate) fn mapped_page(place: NonNull<u8>, _bus_address: u64) -> NonNull<u8> {
    place
}
