//! Copies from a grant. The granter is this domain: a domain may copy from its own grants.

use pv_guest_kernel::abi::{DomId, Errno, PAGE_SIZE};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::hypercall::event_channel;
use pv_guest_kernel::shared::SharedPage;

use crate::machine::grant::Copies;
use crate::report::{Failure, Report};

/// What is copied.
const PATTERN: u8 = 0x5A;

/// Measures them.
///
/// # Errors
/// There is no memory, or no grant.
pub async fn rows(report: &Report) -> Result<(), Failure> {
    let source = SharedPage::allocate().map_err(Errno::from)?;
    source.write_bytes(0, &[PATTERN; PAGE_SIZE]);
    let grant = Grant::new(&source, own_id()?, Access::ReadOnly)?;
    for (name, length, count) in
        [("copy-1", 1, 1), ("copy-4096", PAGE_SIZE, 1), ("copy-8x4096", PAGE_SIZE, 8)]
    {
        let mut copies = Copies::new(grant.reference(), length, count)?;
        report
            .row(name, |ruler| {
                let (ticks, done) = ruler.time(|| copies.make());
                done?;
                copies.check()?;
                let arrived = copies.last_byte() == PATTERN;
                arrived.then_some(ticks).ok_or(Failure::Wrong("the bytes did not arrive"))
            })
            .await;
    }
    Ok(())
}

/// This domain's identifier: a loopback channel's far end is in it.
fn own_id() -> Result<DomId, Errno> {
    let (first, _second) = Channel::loopback()?;
    let status = event_channel::status(DomId::SELF, first.port())?;
    let [low, high, ..] = status.detail.to_le_bytes();
    Ok(DomId(u16::from_le_bytes([low, high])))
}
