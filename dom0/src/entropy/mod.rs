//! Random bytes for guests.
//!
//! * here: the far end of a guest's entropy device
//! * [`source`]: random bytes that nobody has got yet; `virtio` fetches them from the machine's
//!   entropy device when somebody waits for some
//!
//! Each byte is given out once, to one guest.

use abi::entropy::{LENGTH_MAX, Request, Response};
use abi::{DomId, Errno, GrantRef};
use pv_guest_kernel::Environment;
use pv_guest_kernel::grant::{CopyBatch, End};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::xenbus::{BackLink, Device, Error};

mod source;
mod virtio;

use source::Source;

/// Finds the machine's entropy device: the first one, if there are several.
pub fn start(environment: &Environment) {
    for device in &environment.virtio {
        match virtio::start(device) {
            Ok(true) => return log::info!("entropy device at {:#x}", device.base),
            Ok(false) => {}
            Err(error) => log::error!("the entropy device at {:#x}: {error}", device.base),
        }
    }
    log::warn!("there is no entropy device: guests get no random bytes");
}

/// The driver: serves one connection of a frontend.
pub(crate) async fn serve(device: &Device) -> Result<(), Error> {
    let Some(source) = source::get() else {
        return Err(Error::Refused("the machine has no entropy device".into()));
    };
    let link = BackLink::<Request, Response>::connect(device).await?;
    let guest = device.peer();
    link.answer(async |request| answer(&source, guest, request).await).await
}

async fn answer(source: &Source, guest: DomId, request: Request) -> Response {
    let length = usize::try_from(request.length).unwrap_or(LENGTH_MAX).min(LENGTH_MAX);
    let Some(random) = source.take(length).await else { return Response { length: 0 } };
    match write(guest, request.reference, &random) {
        Ok(()) => Response { length: length as u32 },
        Err(error) => {
            log::debug!("{guest}: grant {} cannot be written: {error}", request.reference);
            Response { length: 0 }
        }
    }
}

/// Writes at most a page of bytes to the beginning of a guest's page.
fn write(guest: DomId, reference: GrantRef, bytes: &[u8]) -> Result<(), Errno> {
    let page = SharedPage::allocate()?;
    page.write_bytes(0, bytes);
    let mut copies = CopyBatch::default();
    let copy = copies.push((End::Own(&page), 0), (End::Granted(guest, reference), 0), bytes.len());
    copies.run()?;
    if copies.is_done(copy) { Ok(()) } else { Err(Errno::EACCES) }
}

#[cfg(test)]
mod tests;
