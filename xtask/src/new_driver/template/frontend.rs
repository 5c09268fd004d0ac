//! The frontend of the pair `sample`: what a guest calls.

use abi::sample::{CLASS, Request, Response};

use crate::xenbus::{Caller, Error, first_frontend};
use crate::xenstore::Client;

/// A `sample` device, for any number of tasks. Dropping it closes the device.
#[derive(Debug)]
pub struct Sample(Caller<Request, Response>);

impl Sample {
    /// Connects this domain's first such device; if there is none yet, waits for one.
    ///
    /// # Errors
    /// If the device cannot be connected.
    pub async fn connect(store: &Client) -> Result<Sample, Error> {
        let path = first_frontend(store, CLASS).await?;
        Ok(Sample(Caller::connect(store, &path).await?))
    }

    /// Asks dom0 for the number times the device's factor.
    ///
    /// # Errors
    /// [`Error::Removed`] if the device is gone for good.
    pub async fn multiply(&self, number: u64) -> Result<u64, Error> {
        Ok(self.0.call(Request { number }).await?.product)
    }
}
