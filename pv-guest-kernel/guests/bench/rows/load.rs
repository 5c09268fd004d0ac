//! Ports and grants that are open and not used, so that it shows whether their number matters.

use alloc::vec::Vec;

use pv_guest_kernel::Environment;
use pv_guest_kernel::abi::{DomId, Errno};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::shared::SharedPage;

/// What the command line asks for; given back when dropped.
#[derive(Debug)]
pub struct Load {
    _ports: Vec<Channel>,
    _grants: Vec<Grant>,
}

impl Load {
    /// Opens it.
    ///
    /// # Errors
    /// The monitor has not so many.
    pub fn from_command_line(environment: &Environment) -> Result<Load, Errno> {
        let number = |name| {
            let text = environment.argument(name);
            text.and_then(|text| text.parse().ok()).unwrap_or(0_usize)
        };
        let page = SharedPage::allocate()?;
        let port = |_| Channel::alloc_unbound(DomId::DOM0);
        let grant = |_| Grant::new(&page, DomId::DOM0, Access::ReadOnly);
        Ok(Load {
            _ports: (0..number("ports")).map(port).collect::<Result<_, _>>()?,
            _grants: (0..number("grants")).map(grant).collect::<Result<_, _>>()?,
        })
    }
}
