//! Other domains' granted pages, mapped here: the backends' side.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;

use abi::grant::{MapFlags, MapGrantRef, Status, UnmapGrantRef};
use abi::{DomId, Errno, GrantRef};

use super::Access;
use crate::hypercall::grant_table;
use crate::machine;
use crate::memory::{OutOfWindow, Window};
use crate::shared::SharedPage;

/// Why grants could not be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantError {
    /// The call as a whole failed.
    Call(Errno),
    /// One of the grants cannot be used: the granter is to blame.
    Refused {
        /// Which, in the order given.
        index: usize,
        /// A number of [`Status`], or of what a newer monitor knows.
        status: i16,
    },
    /// There is no address space to map at.
    OutOfWindow,
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrantError::Call(errno) => write!(f, "mapping grants: {errno}"),
            GrantError::Refused { index, status } => match Status::from_raw(*status) {
                Some(status) => write!(f, "grant number {index} refused: {status:?}"),
                None => write!(f, "grant number {index} refused: status {status}"),
            },
            GrantError::OutOfWindow => OutOfWindow.fmt(f),
        }
    }
}

impl core::error::Error for GrantError {}

impl From<GrantError> for Errno {
    fn from(error: GrantError) -> Errno {
        match error {
            GrantError::Call(errno) => errno,
            GrantError::Refused { .. } => Errno::EACCES,
            GrantError::OutOfWindow => Errno::ENOSPC,
        }
    }
}

/// Granted pages of another domain, mapped one after the other. They are unmapped when the
/// mapping and all pages taken from it are gone.
#[derive(Debug, Clone)]
pub struct Mapping(Arc<Mapped>);

#[derive(Debug)]
struct Mapped {
    window: ManuallyDrop<Window>,
    /// As the monitor gave them back.
    grants: Vec<MapGrantRef>,
}

impl Mapping {
    /// Maps grants of `domain`, all or none, in one hypercall.
    ///
    /// # Errors
    /// As [`GrantError`] says.
    pub fn new(
        domain: DomId,
        references: &[GrantRef],
        access: Access,
    ) -> Result<Mapping, GrantError> {
        let window = Window::reserve(references.len()).map_err(|_| GrantError::OutOfWindow)?;
        let flags = match access {
            Access::ReadOnly => MapFlags::HOST_MAP | MapFlags::READONLY,
            Access::ReadWrite => MapFlags::HOST_MAP,
        };
        let element = |(index, &reference): (usize, &GrantRef)| MapGrantRef {
            host_addr: window.page(index).addr().get() as u64,
            flags: flags.bits(),
            reference,
            dom: domain,
            // Stays if the monitor stops before this element.
            status: Status::GeneralError.raw(),
            ..Default::default()
        };
        let mut grants: Vec<MapGrantRef> = references.iter().enumerate().map(element).collect();
        // SAFETY: the window is reserved: nothing is at those addresses.
        let result = unsafe { grant_table::map(&mut grants) };
        // Unmaps what was mapped if something was not.
        let mapped = Mapped { window: ManuallyDrop::new(window), grants };
        result.map_err(GrantError::Call)?;
        let refused = mapped.grants.iter().position(|grant| !is_mapped(grant));
        if let Some(index) = refused {
            return Err(GrantError::Refused { index, status: mapped.grants[index].status });
        }
        Ok(Mapping(Arc::new(mapped)))
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.0.grants.len()
    }

    /// One of the pages; `index` must be less than [`Mapping::pages`].
    pub fn page(&self, index: usize) -> SharedPage {
        let page = machine::mapped_page(self.0.window.page(index), self.bus_address(index));
        // SAFETY: the page is mapped as long as the mapping is kept.
        unsafe { SharedPage::new(page, self.0.clone()) }
    }

    /// The address by which a device reaches that page, in the directly mapped domain.
    pub fn bus_address(&self, index: usize) -> u64 {
        self.0.grants[index].dev_bus_addr
    }
}

fn is_mapped(grant: &MapGrantRef) -> bool {
    grant.status == Status::Okay.raw()
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let element = |grant: &MapGrantRef| UnmapGrantRef {
            host_addr: grant.host_addr,
            handle: grant.handle,
            ..Default::default()
        };
        let mut elements: Vec<UnmapGrantRef> =
            self.grants.iter().filter(|grant| is_mapped(grant)).map(element).collect();
        // SAFETY: nobody holds the mapping or a page of it any more.
        let result = unsafe { grant_table::unmap(&mut elements) };
        let failed = elements.iter().filter(|element| element.status != Status::Okay.raw()).count();
        if result.is_ok() && failed == 0 {
            // SAFETY: dropped here only, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.window) };
        } else {
            // The addresses stay reserved: nothing else must be mapped there.
            log::error!("{failed} of {} grants stay mapped: {result:?}", elements.len());
        }
    }
}
