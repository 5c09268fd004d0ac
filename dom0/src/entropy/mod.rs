//! Random bytes for guests.
//!
//! * here: the far end of a guest's entropy device
//! * [`source`]: random bytes that nobody has got yet; `virtio` fetches them from the machine's
//!   entropy device when somebody waits for some
//!
//! Each byte is given out once, to one guest.

use abi::entropy::{BYTES_MAX, Request, Response};
use pv_guest_kernel::Environment;
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
    link.answer(async |request| answer(&source, request).await).await
}

async fn answer(source: &Source, request: Request) -> Response {
    let length = usize::try_from(request.length).unwrap_or(BYTES_MAX).min(BYTES_MAX);
    let random = source.take(length).await;
    let mut bytes = [0; BYTES_MAX];
    bytes.iter_mut().zip(random).for_each(|(byte, random)| *byte = random);
    Response { bytes }
}

#[cfg(test)]
mod tests;
