//! Random bytes, from dom0's entropy device.

use alloc::vec;

use abi::entropy::{CLASS, LENGTH_MAX, Request, Response};

use crate::grant::{Access, Grant};
use crate::shared::SharedPage;
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
    /// [`Error::Removed`] if the device is gone for good; if a page cannot be had or granted.
    pub async fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let page = SharedPage::allocate()?;
        let grant = Grant::new(&page, self.0.backend(), Access::ReadWrite)?;
        let reference = grant.reference();
        let mut lent = vec![grant];
        for part in bytes.chunks_mut(LENGTH_MAX) {
            let request = Request { reference, length: part.len() as u32 };
            let (response, returned) = self.0.lend(request, lent).await?;
            if response.length != request.length {
                return Err(Error::Refused("the backend has no bytes for us".into()));
            }
            page.read_bytes(0, part);
            lent = returned;
        }
        Ok(())
    }
}
