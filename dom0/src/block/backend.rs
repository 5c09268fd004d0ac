//! The far end of a guest's disk (public/io/blkif.h).
//!
//! Nothing is copied: the guest's granted pages are mapped, which gives their machine addresses,
//! and the device is told to read or write there. A request's mapping is owned by the transfer, so
//! it ends exactly when the device is done, whatever happens to the guest or to this task; the
//! guest hears of the end only after that.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};

use abi::GrantRef;
use abi::block::{MAX_SEGMENTS, PROTOCOL, Request, Response, SECTOR_SIZE, Status};
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pv_guest_kernel::grant::{Access, GrantError, Mapping};
use pv_guest_kernel::xenbus::{BackLink, Device, Error, State};
use thiserror::Error as ErrorMessage;

use super::disk::{Disk, IoError};
use super::disks::{Claim, Mode};
use super::queue::Operation;
use super::request::{self, Direction, Job, Limits, Piece, Refusal};
use crate::virtio::Span;

/// Bit of the `info` key: the disk must not be written.
const INFO_READ_ONLY: u32 = 1 << 2;

type Link<'d> = BackLink<'d, Request, Response>;
type Pieces = heapless::Vec<Piece, MAX_SEGMENTS>;

/// The driver: serves one connection of a frontend. The toolstack's keys: `params` names the disk,
/// `mode` is `r` or `w`.
pub(crate) async fn serve(device: &Device) -> Result<(), Error> {
    let name: String = device.read("params").await?;
    let mode = match device.read::<String>("mode").await?.as_str() {
        "w" => Mode::ReadWrite,
        _ => Mode::ReadOnly,
    };
    let claim = Claim::new(&name, device.peer(), mode)
        .map_err(|error| Error::Refused(error.to_string()))?;
    let limits = Limits {
        sectors: claim.disk.info.bytes / SECTOR_SIZE as u64,
        read_only: mode == Mode::ReadOnly,
        flush: claim.disk.info.flush,
    };
    let flush = u8::from(limits.flush).to_string();
    device.publish(&[("feature-flush-cache", &flush)], State::InitWait).await?;

    let link = Link::accept(device).await?;
    expect_protocol(device).await?;
    announce(device, &limits).await?;
    Backend { device, disk: claim.disk.clone(), limits }.run(&link).await
}

/// The layout of requests depends on it. A frontend that names none means its own, which is ours.
async fn expect_protocol(device: &Device) -> Result<(), Error> {
    match device.read_peer::<String>("protocol").await {
        Ok(protocol) if protocol != PROTOCOL => {
            Err(Error::Refused(format!("the frontend speaks {protocol}, not {PROTOCOL}")))
        }
        _ => Ok(()),
    }
}

/// Tells the frontend what the disk is like.
async fn announce(device: &Device, limits: &Limits) -> Result<(), Error> {
    let sectors = limits.sectors.to_string();
    let sector_size = SECTOR_SIZE.to_string();
    let info = if limits.read_only { INFO_READ_ONLY } else { 0 }.to_string();
    let keys = [
        ("sectors", sectors.as_str()),
        ("sector-size", &sector_size),
        ("physical-sector-size", &sector_size),
        ("info", &info),
    ];
    device.publish(&keys, State::Connected).await
}

/// Why a request failed.
#[derive(Debug, ErrorMessage)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Io(#[from] IoError),
}

struct Backend<'d> {
    device: &'d Device,
    disk: Rc<Disk>,
    limits: Limits,
}

impl Backend<'_> {
    /// Answers requests until the frontend goes away, then waits for those that the disk still
    /// works on: the ring, and the claim on the disk, are given back only after that.
    async fn run(&self, link: &Link<'_>) -> Result<(), Error> {
        let mut in_flight = FuturesUnordered::new();
        let result = self.answer(link, &mut in_flight, |request| self.execute(request)).await;
        while in_flight.next().await.is_some() {}
        result
    }

    /// The ring has so many slots, so no more than that can be in flight.
    async fn answer<F: Future<Output = Response>>(
        &self,
        link: &Link<'_>,
        in_flight: &mut FuturesUnordered<F>,
        execute: impl Fn(Request) -> F,
    ) -> Result<(), Error> {
        loop {
            while let Some(request) = link.try_receive()? {
                in_flight.push(execute(request));
            }
            while let Some(Some(response)) = in_flight.next().now_or_never() {
                link.push(&response)?;
            }
            link.flush();
            if in_flight.is_empty() {
                link.wait().await?;
                continue;
            }
            let more = core::pin::pin!(link.wait());
            match select(more, in_flight.next()).await {
                Either::Left((result, _)) => result?,
                Either::Right((Some(response), _)) => link.push(&response)?,
                Either::Right((None, _)) => {}
            }
        }
    }

    async fn execute(&self, request: Request) -> Response {
        let status = match self.perform(&request).await {
            Ok(()) => Status::Okay,
            Err(failure) => {
                log::debug!("{}: request {}: {failure}", self.device, request.id);
                failure.status()
            }
        };
        Response {
            id: request.id,
            operation: request.operation,
            status: status.raw(),
            ..Default::default()
        }
    }

    async fn perform(&self, request: &Request) -> Result<(), Failure> {
        match request::check(request, &self.limits)? {
            Job::Flush => Ok(self.disk.transfer(Operation::Flush, 0, &[], ()).await?),
            Job::Transfer { direction, sector, pieces } => {
                self.transfer(direction, sector, &pieces).await
            }
        }
    }

    async fn transfer(
        &self,
        direction: Direction,
        sector: u64,
        pieces: &Pieces,
    ) -> Result<(), Failure> {
        let (operation, access) = match direction {
            Direction::FromDisk => (Operation::Read, Access::ReadWrite),
            Direction::ToDisk => (Operation::Write, Access::ReadOnly),
        };
        let references: heapless::Vec<GrantRef, MAX_SEGMENTS> =
            pieces.iter().map(|piece| piece.reference).collect();
        let mapping = Mapping::new(self.device.peer(), &references, access)?;
        let spans = spans(pieces, |index| mapping.bus_address(index));
        Ok(self.disk.transfer(operation, sector, &spans, mapping).await?)
    }
}

/// Where the device finds the pieces, given where it finds their pages.
fn spans(pieces: &Pieces, page: impl Fn(usize) -> u64) -> heapless::Vec<Span, MAX_SEGMENTS> {
    let span = |(index, piece): (usize, &Piece)| Span {
        address: page(index) + u64::from(piece.offset),
        length: piece.length,
    };
    pieces.iter().enumerate().map(span).collect()
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::Refused(Refusal::NotSupported(_)) | Failure::Io(IoError::Unsupported) => {
                Status::NotSupported
            }
            _ => Status::Error,
        }
    }
}
