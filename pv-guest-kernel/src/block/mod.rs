//! Disks, through the frontend of Xen's block protocol (public/io/blkif.h).
//!
//! Many requests can be in flight: each is a future. Data lies in [`Buffer`]s of granted pages,
//! which the backend's device reads and writes directly; their grants are made once and used
//! again. When the backend dies, requests wait and are sent again once it is back.
//!
//! ```text
//! tasks --> Disk --> Queue (waiting, in flight) --> Connection (ring, event channel)
//!   ^                          ^
//!   +--------- answers --------+--- driver task
//! ```

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use abi::block::{MAX_SEGMENTS, SECTOR_SIZE};
use abi::{Errno, PAGE_SIZE};
use futures_channel::oneshot;
use thiserror::Error as ErrorMessage;

use crate::xenbus::{Device, Error, run_frontend, start_driver};
use crate::xenstore::Client;

mod buffer;
mod connection;
mod queue;

pub use buffer::{BUFFER_MAX, Buffer};

use buffer::Pool;
use connection::Connection;
use queue::{Queue, Work};

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
    /// Whether it is a CD or the like.
    pub cdrom: bool,
    /// Whether its medium may be changed.
    pub removable: bool,
    /// Whether the backend can make data durable on request.
    pub flush: bool,
    /// Whether it can forget sectors.
    pub discard: bool,
    /// Segments in an indirect request; zero if the backend takes none.
    segments: usize,
}

impl Info {
    /// The most bytes that one transfer can move.
    pub fn transfer_max(&self) -> usize {
        BUFFER_MAX.min(self.segments.max(MAX_SEGMENTS) * PAGE_SIZE)
    }
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
    /// While there is a backend.
    connection: RefCell<Option<Rc<Connection>>>,
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
            connection: RefCell::default(),
            connected: RefCell::new(Some(connected)),
        });
        let (store, path, driven) = (store.clone(), path.to_string(), state.clone());
        let driver = async move {
            let result = run_frontend(&store, &path, async |device| driven.drive(device).await);
            let result = result.await;
            driven.queue.borrow_mut().close();
            result
        };
        start_driver(driver, first_connection).await?;
        Ok(Disk { name: name(number), state })
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
            cdrom: false,
            removable: false,
            flush: false,
            discard: false,
            segments: 0,
        })
    }

    /// A buffer of so many bytes, for transfers with this disk.
    ///
    /// # Errors
    /// `EINVAL` if that is no whole number of sectors, zero, or beyond [`Info::transfer_max`];
    /// `ENOMEM`; `ENOSPC` if no more pages can be granted.
    pub fn buffer(&self, length: usize) -> Result<Buffer, Errno> {
        if length > self.info().transfer_max() {
            return Err(Errno::EINVAL);
        }
        self.state.pool.buffer(length)
    }

    /// Fills the buffer from the disk, beginning at a sector of 512 bytes.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn read(&self, sector: u64, buffer: Buffer) -> Result<Buffer, BlockError> {
        self.perform(Work::Read(sector, buffer)).await?.ok_or(BlockError::Failed)
    }

    /// Writes the buffer to the disk, beginning at a sector of 512 bytes.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn write(&self, sector: u64, buffer: Buffer) -> Result<Buffer, BlockError> {
        self.perform(Work::Write(sector, buffer)).await?.ok_or(BlockError::Failed)
    }

    /// Tells the disk that nobody needs what these sectors of 512 bytes hold.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn discard(&self, sector: u64, sectors: u64) -> Result<(), BlockError> {
        self.perform(Work::Discard { sector, sectors }).await.map(drop)
    }

    /// Makes all writes that have completed durable.
    ///
    /// # Errors
    /// As [`BlockError`] says.
    pub async fn flush(&self) -> Result<(), BlockError> {
        self.perform(Work::Flush).await.map(drop)
    }

    /// The buffer belongs to the request until the backend has answered, whether or not somebody
    /// still waits for that.
    async fn perform(&self, work: Work) -> Result<Option<Buffer>, BlockError> {
        let answer = self.state.queue.borrow_mut().submit(work);
        self.state.send();
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
        let (connection, info) = Connection::open(device).await?;
        let connection = Rc::new(connection);
        self.info.set(Some(info));
        self.queue.borrow_mut().send_again();
        *self.connection.borrow_mut() = Some(connection.clone());
        if let Some(connected) = self.connected.take() {
            // Whoever wanted to connect may have given up.
            let _ = connected.send(());
        }
        let result = self.serve(device, &connection).await;
        *self.connection.borrow_mut() = None;
        result
    }

    /// Takes answers, and sends what waits for room, until the backend goes or all is done.
    async fn serve(&self, device: &Device, connection: &Connection) -> Result<(), Error> {
        let mut ended = pin!(device.ended());
        loop {
            self.send();
            connection.receive(&mut self.queue.borrow_mut())?;
            self.send();
            let mut signal = pin!(connection.channel.wait());
            let finished = poll_fn(|context| {
                if let Poll::Ready(()) = signal.as_mut().poll(context) {
                    return Poll::Ready(Ok(false));
                }
                if let Poll::Ready(()) = self.queue.borrow_mut().poll_finished(context) {
                    return Poll::Ready(Ok(true));
                }
                ended.as_mut().poll(context).map(Err)
            });
            if finished.await? {
                return Ok(());
            }
        }
    }

    /// Puts on the ring what waits and finds room there. Without a backend it waits on.
    fn send(&self) {
        if let Some(connection) = &*self.connection.borrow() {
            connection.send(&mut self.queue.borrow_mut());
        }
    }
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
