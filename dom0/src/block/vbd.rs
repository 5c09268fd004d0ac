//! The life of one virtual disk's backend: what it offers, what its frontend takes up.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::pin::pin;

use abi::block::{InfoFlags, PROTOCOL, SECTOR_SIZE, key};
use abi::ring::BackRing;
use abi::{Errno, GrantRef, Port};
use futures_util::future::{Either, FutureExt, select, select_all};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Mapping};
use pv_guest_kernel::xenbus::{Device, Error, RingPages, State, queue_prefix};

use super::disks::Mode;
use super::memory::{Grants, Reach};
use super::request::MAX_INDIRECT_SEGMENTS;
use super::running::{Running, Stop};
use super::server::{Credits, Ring, Server};
use super::target::Target;
use super::volume::Volume;

/// Pages of the largest ring, log2: such a ring has as many requests as a real disk's queue.
const MAX_RING_ORDER: u32 = 2;
/// Rings of one disk at most. One thread serves them all: they spare a guest's vCPUs a lock.
const MAX_QUEUES: u32 = 4;

/// The driver: serves one connection of a frontend. The toolstack's keys: `params` and `overlay` name
/// the content, `mode` is `r` or `w`.
pub(crate) async fn serve(device: &Device) -> Result<(), Error> {
    let target: Target = device.read("params").await?;
    let overlay: Option<Target> = device.read("overlay").await.ok();
    let mode = match device.read::<String>("mode").await?.as_str() {
        "w" => Mode::ReadWrite,
        _ => Mode::ReadOnly,
    };
    let volume = Volume::open(device.path(), &target, overlay.as_ref(), device.peer(), mode).await;
    let volume = volume.map_err(|error| Error::Refused(error.to_string()))?;
    offer(device, &volume, mode).await?;
    device.wait_peer(&[State::Initialised, State::Connected]).await?;
    let servers = accept(device, &volume, mode).await?;
    announce(device, &volume, mode).await?;

    let mut running = Running::new(device.path());
    let result = {
        let rings = select_all(servers.iter().map(|server| server.run().boxed_local()));
        let (ended, stopped) = (pin!(device.ended()), pin!(running.stopped()));
        match select(select(ended, stopped), rings).await {
            Either::Left((Either::Left((error, _)), _)) => Err(error),
            Either::Left((Either::Right((Stop::Crash, _)), _)) => return Ok(()),
            Either::Left((Either::Right((Stop::Orderly, _)), _)) => Ok(()),
            Either::Right(((Err(error), ..), _)) => Err(error),
        }
    };
    // The rings, and the claim on the disk, are given back only when the disk is done.
    for server in &servers {
        server.drain().await;
    }
    result
}

/// Tells the frontend what it may use.
async fn offer(device: &Device, volume: &Volume, mode: Mode) -> Result<(), Error> {
    let limits = volume.limits(mode == Mode::ReadOnly);
    let flag = |set: bool| if set { "1" } else { "0" };
    let granularity = (u64::from(volume.discard_unit()) * SECTOR_SIZE as u64).to_string();
    let (order, queues) = (MAX_RING_ORDER.to_string(), MAX_QUEUES.to_string());
    let indirect = MAX_INDIRECT_SEGMENTS.to_string();
    let mut keys = Vec::from([
        (key::FLUSH, flag(limits.flush)),
        // A frontend that would copy for it had better not, if there is no device: the monitor copies.
        (key::PERSISTENT, flag(volume.has_device())),
        (key::MAX_INDIRECT, indirect.as_str()),
        (key::MAX_RING_ORDER, &order),
        (key::MAX_QUEUES, &queues),
        (key::DISCARD, flag(limits.discard)),
    ]);
    if limits.discard {
        keys.extend([(key::DISCARD_GRANULARITY, granularity.as_str())]);
        keys.extend([(key::DISCARD_ALIGNMENT, "0")]);
    }
    device.publish(&keys, State::InitWait).await
}

/// How the frontend's pages are best reached.
async fn reach(device: &Device, volume: &Volume) -> Result<Reach, Error> {
    let agreed = volume.has_device() && device.peer_has(key::PERSISTENT).await?;
    if agreed || device.peer_has(key::LASTING_GRANTS).await? {
        return Ok(Reach::Persistent);
    }
    Ok(if volume.has_device() { Reach::Mapped } else { Reach::Copied })
}

/// Takes what the frontend has brought.
async fn accept(device: &Device, volume: &Rc<Volume>, mode: Mode) -> Result<Vec<Server>, Error> {
    let protocol = device.read_peer_optional::<String>(key::PROTOCOL).await?;
    if let Some(protocol) = protocol.filter(|protocol| protocol != PROTOCOL) {
        // The layout of requests depends on it.
        return Err(Error::Refused(format!("the frontend speaks {protocol}, not {PROTOCOL}")));
    }
    let reach = reach(device, volume).await?;
    let grants = Grants::new(device.peer(), reach).map_err(Errno::from)?;
    let limits = volume.limits(mode == Mode::ReadOnly);
    let queues = device.read_peer_optional(key::QUEUES).await?.unwrap_or(1);
    let queues = up_to(key::QUEUES, queues, MAX_QUEUES)?;
    let (rate, iops) = (device.read("rate").await.ok(), device.read("iops").await.ok());
    let limited = rate.is_some() || iops.is_some();
    let credits = limited.then(|| Credits::new(rate, iops));
    let mut servers = Vec::new();
    for queue in 0..queues {
        let prefix = queue_prefix(queue as usize, queues as usize);
        let link = connect(device, &prefix).await?;
        let (volume, grants, credits) = (volume.clone(), grants.clone(), credits.clone());
        servers.push(Server::new(device, volume, limits, grants, credits, link));
    }
    Ok(servers)
}

/// The ring and the port in this part of the frontend's directory.
async fn connect(device: &Device, prefix: &str) -> Result<(Ring, Channel), Error> {
    let mut references = Vec::new();
    match device.read_peer_optional(key::RING_ORDER).await? {
        None => {
            let key = format!("{prefix}{}", key::RING_REF);
            references.push(GrantRef(device.read_peer(&key).await?));
        }
        Some(order) => {
            for page in 0..1_u32 << up_to(key::RING_ORDER, order, MAX_RING_ORDER)? {
                let key = format!("{prefix}{}{page}", key::RING_REF);
                references.push(GrantRef(device.read_peer(&key).await?));
            }
        }
    }
    let port = Port(device.read_peer(&format!("{prefix}{}", key::EVENT_CHANNEL)).await?);
    let mapping = Mapping::new(device.peer(), &references, Access::ReadWrite)?;
    // The ring's pages keep the mapping.
    let pages = RingPages::new((0..references.len()).map(|index| mapping.page(index)));
    let pages = pages.ok_or(Errno::EINVAL)?;
    let channel = Channel::bind_interdomain(device.peer(), port)?;
    Ok((BackRing::attach(pages), channel))
}

/// Tells the frontend what the disk is like.
async fn announce(device: &Device, volume: &Volume, mode: Mode) -> Result<(), Error> {
    let limits = volume.limits(mode == Mode::ReadOnly);
    let mut info = InfoFlags::empty();
    info.set(InfoFlags::READ_ONLY, limits.read_only);
    info.set(InfoFlags::CDROM, device.read::<String>("device-type").await? == "cdrom");
    info.set(InfoFlags::REMOVABLE, device.read::<u32>("removable").await? != 0);
    let (sectors, info) = (limits.sectors.to_string(), info.bits().to_string());
    let sector_size = SECTOR_SIZE.to_string();
    let keys = [
        (key::SECTORS, sectors.as_str()),
        (key::SECTOR_SIZE, &sector_size),
        (key::PHYSICAL_SECTOR_SIZE, &sector_size),
        (key::INFO, &info),
    ];
    device.publish(&keys, State::Connected).await
}

fn up_to(key: &str, value: u32, most: u32) -> Result<u32, Error> {
    if value > most {
        return Err(Error::Refused(format!("the frontend's {key} is {value}, beyond {most}")));
    }
    Ok(value)
}
