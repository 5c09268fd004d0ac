//! The ring and the event channel that a disk shares with its backend.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::Errno;
use abi::block::{InfoFlags, PROTOCOL, Request, Response, key};
use abi::ring::FrontRing;

use super::Info;
use super::queue::Queue;
use crate::event::Channel;
use crate::grant::{Access, Grant};
use crate::shared::SharedPage;
use crate::xenbus::{Device, Error, RingPages, State};

/// Pages of a ring, log2, if the backend takes so many.
const RING_ORDER: u32 = 2;

/// A ring and an event channel.
#[derive(Debug)]
pub(super) struct Connection {
    ring: RefCell<FrontRing<RingPages, Request, Response>>,
    pub(super) channel: Channel,
    /// On the ring's pages.
    _grants: Vec<Grant>,
}

impl Connection {
    /// Waits for the backend and offers it a ring, as large as it takes; returns what it says of
    /// the disk, too.
    pub(super) async fn open(device: &Device) -> Result<(Connection, Info), Error> {
        device.wait_peer_return(&[State::InitWait]).await?;
        let order =
            device.read_peer_optional(key::MAX_RING_ORDER).await?.unwrap_or(0).min(RING_ORDER);
        let persistent = device.peer_has(key::PERSISTENT).await?;
        let pages = SharedPage::allocate_run(1 << order).map_err(Errno::from)?;
        let ring = FrontRing::new(RingPages::new(pages.iter().cloned()).ok_or(Errno::ENOMEM)?);
        let grant = |page: &SharedPage| Grant::new(page, device.peer(), Access::ReadWrite);
        let grants: Vec<Grant> = pages.iter().map(grant).collect::<Result<_, _>>()?;
        let channel = Channel::alloc_unbound(device.peer())?;

        let mut keys = Vec::from([
            (key::PROTOCOL.to_string(), PROTOCOL.to_string()),
            (key::EVENT_CHANNEL.to_string(), channel.port().to_string()),
            // Buffers are granted once and used again, whatever the backend makes of that.
            (key::PERSISTENT.to_string(), u32::from(persistent).to_string()),
            (key::LASTING_GRANTS.to_string(), "1".to_string()),
        ]);
        if order > 0 {
            keys.push((key::RING_ORDER.to_string(), order.to_string()));
        }
        for (index, grant) in grants.iter().enumerate() {
            let number = if order > 0 { index.to_string() } else { Default::default() };
            keys.push((format!("{}{number}", key::RING_REF), grant.reference().to_string()));
        }
        let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (&**key, &**value)).collect();
        device.publish(&keys, State::Initialised).await?;
        device.wait_peer(&[State::Connected]).await?;
        let info = read_info(device).await?;
        device.switch_state(State::Connected).await?;
        Ok((Connection { ring: RefCell::new(ring), channel, _grants: grants }, info))
    }

    /// Puts requests on the ring, as many as there are and as it has room for.
    pub(super) fn send(&self, queue: &mut Queue) {
        let mut ring = self.ring.borrow_mut();
        while ring.free() > 0
            && let Some(request) = queue.next_request()
        {
            // There is room.
            let _ = ring.push(&request);
        }
        if ring.publish() {
            self.channel.notify();
        }
    }

    /// Takes the backend's answers, and asks to be told of the next one.
    pub(super) fn receive(&self, queue: &mut Queue) -> Result<(), Error> {
        let mut ring = self.ring.borrow_mut();
        loop {
            while let Some(response) = ring.pop()? {
                queue.complete(&response)?;
            }
            if !ring.final_check()? {
                return Ok(());
            }
        }
    }
}

async fn read_info(device: &Device) -> Result<Info, Error> {
    let flags = InfoFlags::from_bits_retain(device.read_peer(key::INFO).await?);
    Ok(Info {
        sectors: device.read_peer(key::SECTORS).await?,
        sector_size: device.read_peer(key::SECTOR_SIZE).await?,
        read_only: flags.contains(InfoFlags::READ_ONLY),
        cdrom: flags.contains(InfoFlags::CDROM),
        removable: flags.contains(InfoFlags::REMOVABLE),
        flush: device.peer_has(key::FLUSH).await?,
        discard: device.peer_has(key::DISCARD).await?,
        segments: device.read_peer_optional(key::MAX_INDIRECT).await?.unwrap_or(0),
    })
}
