//! Ports and grants that are open and not used, so that it shows whether their number matters.

use alloc::vec::Vec;

use pv_guest_kernel::abi::{DomId, Errno};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::shared::SharedPage;

/// Closed and ended when dropped.
#[derive(Debug)]
pub struct Load {
    _ports: Vec<Channel>,
    _grants: Vec<Grant>,
}

impl Load {
    /// Opens so many of each.
    ///
    /// # Errors
    /// The monitor has not so many.
    pub fn new(ports: u32, grants: u32) -> Result<Load, Errno> {
        let page = SharedPage::allocate()?;
        let port = |_| Channel::alloc_unbound(DomId::DOM0);
        let grant = |_| Grant::new(&page, DomId::DOM0, Access::ReadOnly);
        Ok(Load {
            _ports: (0..ports).map(port).collect::<Result<_, _>>()?,
            _grants: (0..grants).map(grant).collect::<Result<_, _>>()?,
        })
    }
}
