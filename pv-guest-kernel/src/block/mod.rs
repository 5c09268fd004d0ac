//! Disks, through the frontend of Xen's block protocol (public/io/blkif.h).
//!
//! Many requests can be in flight: each is a future. Data lies in [`Buffer`]s of granted pages,
//! which the backend's device reads and writes directly; their grants are made once and used
//! again. When the backend dies, requests wait and are sent again once it is back.
//!
//! ```text
//! tasks --> Disk --> Queue (waiting, in flight) --> driver task --> Link (ring, event channel)
//! ```

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::cell::{Cell, RefCell};

use abi::Errno;
use abi::block::{Operation, Request, Response, SECTOR_SIZE};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use thiserror::Error as ErrorMessage;

use crate::executor;
use crate::xenbus::{Device, Error, FrontLink, run_frontend};
use crate::xenstore::Client;

mod buffer;
mod queue;

pub use buffer::{BUFFER_MAX, Buffer};

use buffer::Pool;
use queue::{Queue, Work};

/// A backend's `info` key: the disk must not be written.
const INFO_READ_ONLY: u32 = 1 << 2;
/// Block major number of `xvd` disks in Linux, which is how the toolstack numbers them.
const XVD_MAJOR: u32 = 202;

/// What a disk is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Size in units of 512 bytes.
    pub sectors: u64,
    /// Bytes that the device itself reads and writes at once.
    pub sector_size: u32,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether the backend can make data durable on request.
    pub flush: bool,
}

/// Why a transfer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ErrorMessage)]
pub enum BlockError {
    /// The disk could not do it.
    #[error("the disk reports an error")]
    Failed,
    /// The backend does not do such a thing.
    #[error("the disk does not support this")]
    NotSupported,
    /// The device is gone for good.
    #[error("the disk was removed")]
    Removed,
}

/// A disk. Dropping it closes the device.
#[derive(Debug)]
pub struct Disk {
    name: String,
    state: Rc<State>,
}

/// What the disk and its driver task share.
#[derive(Debug)]
struct State {
    queue: RefCell<Queue>,
    pool: Pool,
    info: Cell<Option<Info>>,
    /// Whoever waits for the first connection.
    connected: RefCell<Option<oneshot::Sender<()>>>,
}

impl Disk {
    /// Connects the frontend in a directory such as `device/vbd/51712`.
    ///
    /// # Errors
    /// If the device cannot be connected.
    pub async fn connect(store: &Client, path: &str) -> Result<Disk, Error> {
        let number: u32 = key(store, path, "virtual-device").await?;
        let backend: u16 = key(store, path, "backend-id").await?;
        let (connected, first_connection) = oneshot::channel();
        let state = Rc::new(State {
            queue: RefCell::default(),
            pool: Pool::new(abi::DomId(backend)),
            info: Cell::new(None),
            connected: RefCell::new(Some(connected)),
        });
        let (store, path, driven) = (store.clone(), path.to_string(), state.clone());
        let driver = executor::spawn(async move {
            let result = run_frontend(&store, &path, async |device| driven.drive(device).await);
            let result = result.await;
            driven.queue.borrow_mut().close();
            result
        });
        match select(first_connection, driver).await {
            Either::Left((_, driver)) => {
                driver.detach();
                Ok(Disk { name: name(number), state })
            }
            Either::Right((Ok(()), _)) => Err(Error::Removed),
            Either::Right((Err(error), _)) => Err(error),
        }
    }

    /// The name under which the toolstack configured it, such as `xvda`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is like, as the backend said when it last connected.
    pub fn info(&self) -> Info {
        // A disk is handed out after the first connection only.
        self.state.info.get().unwrap_or(Info {
            sectors: 0,
            sector_size: SECTOR_SIZE as u32,
            read_only: true,
            flush: false,
        })
    }

    /// A buffer of so many bytes, for transfers with this disk.
    ///
    /// # Errors
    /// `EINVAL` if that is no whole number of sectors, zero, or beyond [`BUFFER_MAX`]; `ENOMEM`;
    /// `ENOSPC` if no more pages can be granted.
    pub fn buffer(&self, length: usize) -> Result<Buffer, Errno> {
        self.state.pool.buffer(length)
    }

    /// Fills the buffer from the disk, beginning at a sector of 512 bytes.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn read(&self, sector: u64, buffer: Buffer) -> Result<Buffer, BlockError> {
        self.transfer(Work { operation: Operation::Read, sector, buffer: Some(buffer) })
            .await?
            .ok_or(BlockError::Failed)
    }

    /// Writes the buffer to the disk, beginning at a sector of 512 bytes.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn write(&self, sector: u64, buffer: Buffer) -> Result<Buffer, BlockError> {
        self.transfer(Work { operation: Operation::Write, sector, buffer: Some(buffer) })
            .await?
            .ok_or(BlockError::Failed)
    }

    /// Makes all writes that have completed durable.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn flush(&self) -> Result<(), BlockError> {
        self.transfer(Work { operation: Operation::Flush, sector: 0, buffer: None }).await.map(drop)
    }

    /// The buffer belongs to the request until the backend has answered, whether or not somebody
    /// still waits for that.
    async fn transfer(&self, work: Work) -> Result<Option<Buffer>, BlockError> {
        let answer = self.state.queue.borrow_mut().submit(work);
        answer.await.unwrap_or(Err(BlockError::Removed))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.state.queue.borrow_mut().finish();
    }
}

impl State {
    /// The driver: from connection to disconnection.
    async fn drive(&self, device: &Device) -> Result<(), Error> {
        let details = [("protocol", abi::block::PROTOCOL)];
        let link = FrontLink::<Request, Response>::connect(device, &details).await?;
        self.info.set(Some(read_info(device).await?));
        self.queue.borrow_mut().send_again();
        if let Some(connected) = self.connected.take() {
            // Whoever wanted to connect may have given up.
            let _ = connected.send(());
        }
        loop {
            while let Some(response) = link.try_receive()? {
                self.queue.borrow_mut().complete(&response)?;
            }
            while link.free() > 0
                && let Some(request) = self.queue.borrow_mut().next_request()
            {
                link.push(&request)?;
            }
            link.flush();
            if self.queue.borrow().is_finished() {
                return Ok(());
            }
            let room = link.free() > 0;
            let more = core::future::poll_fn(|context| {
                self.queue.borrow_mut().poll_waiting(room, context)
            });
            if let Either::Left((result, _)) = select(core::pin::pin!(link.wait()), more).await {
                result?;
            }
        }
    }
}

async fn read_info(device: &Device) -> Result<Info, Error> {
    Ok(Info {
        sectors: device.read_peer("sectors").await?,
        sector_size: device.read_peer("sector-size").await?,
        read_only: device.read_peer::<u32>("info").await? & INFO_READ_ONLY != 0,
        // A key that a backend need not write.
        flush: device.read_peer::<u32>("feature-flush-cache").await.unwrap_or(0) != 0,
    })
}

async fn key<T: core::str::FromStr>(store: &Client, path: &str, key: &str) -> Result<T, Error> {
    let key = format!("{path}/{key}");
    store.read_as(&key).await.map_err(|error| Error::Key { key, error })
}

/// The name that belongs to a device number (docs/man/xen-vbd-interface.7): a major number for
/// all `xvd` disks, and 16 minor ones for each.
fn name(number: u32) -> String {
    let (major, disk) = (number >> 8, (number & 0xff) >> 4);
    match u8::try_from(disk) {
        Ok(disk) if major == XVD_MAJOR => format!("xvd{}", char::from(b'a' + disk)),
        _ => format!("vbd{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_xens() {
        assert_eq!(name(51712), "xvda");
        assert_eq!(name(51712 + 15 * 16), "xvdp");
        assert_eq!(name(768), "vbd768");
    }
}
