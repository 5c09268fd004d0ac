//! Random bytes, from dom0's entropy device.

use abi::entropy::{BYTES_MAX, CLASS, Request, Response};

use crate::xenbus::{Caller, Error, first_frontend};
use crate::xenstore::Client;

/// This domain's source of random bytes. Dropping it closes the device.
#[derive(Debug)]
pub struct Entropy(Caller<Request, Response>);

impl Entropy {
    /// Connects this domain's first entropy device; if there is none yet, waits for one.
    ///
    /// # Errors
    /// If the device cannot be connected.
    pub async fn connect(store: &Client) -> Result<Entropy, Error> {
        let path = first_frontend(store, CLASS).await?;
        Ok(Entropy(Caller::connect(store, &path).await?))
    }

    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// [`Error::Removed`] if the device is gone for good.
    pub async fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for part in bytes.chunks_mut(BYTES_MAX) {
            let response = self.0.call(Request { length: part.len() as u32 }).await?;
            part.iter_mut().zip(response.bytes).for_each(|(byte, random)| *byte = random);
        }
        Ok(())
    }
}
