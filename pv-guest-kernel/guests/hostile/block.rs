//! Block frontends that break the protocol: bad requests must be answered with an error, a bad ring
//! must be closed, and good requests in between must be served.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use pv_guest_kernel::abi::block::{
    DiscardRequest, IndirectRequest, Operation, Request, Response, Segment, Status, key,
};
use pv_guest_kernel::abi::ring::FrontRing;
use pv_guest_kernel::abi::{GrantRef, PAGE_SIZE};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::time;
use pv_guest_kernel::xenbus::{Device, Error, State, frontends, queue_prefix};
use pv_guest_kernel::xenstore::Client;

use crate::border::Border;

/// No page of this domain is granted by it.
const NO_GRANT: GrantRef = GrantRef(100_000);
/// No disk here has it.
const NO_SECTOR: u64 = 1 << 40;

/// A queue: its ring, the ring's page, and the port.
struct Queue {
    ring: FrontRing<SharedPage, Request, Response>,
    page: SharedPage,
    channel: Channel,
    _grant: Grant,
}

/// A connected disk, and a granted page for data.
struct Disk {
    device: Device,
    queues: Vec<Queue>,
    data: Grant,
}

/// Uses this domain's disks in wrong ways, if it has any.
pub async fn attempts(border: &mut Border, store: &Client) {
    let disks = frontends(store, "vbd").await.unwrap_or_default();
    let [writable, other, read_only] = disks.as_slice() else { return };
    let result = async {
        bad_requests(border, &mut Disk::connect(store, writable, 1).await?).await?;
        rewritten(border, &mut Disk::connect(store, writable, 1).await?).await?;
        two_queues(border, &mut Disk::connect(store, writable, 2).await?).await?;
        written_though_read_only(border, &mut Disk::connect(store, read_only, 1).await?).await?;
        bad_offers(border, store, other).await?;
        bad_ring(border, &mut Disk::connect(store, read_only, 1).await?).await
    };
    let result: Result<(), Error> = result.await;
    if let Err(error) = result {
        border.note(&format!("block: a frontend could not go on: {error}"), 0, false);
    }
}

impl Disk {
    async fn connect(store: &Client, path: &str, queues: usize) -> Result<Disk, Error> {
        let device = Device::frontend(store, path).await?;
        device.wait_peer_return(&[State::InitWait]).await?;
        let data = Grant::new(&page()?, device.peer(), Access::ReadWrite)?;
        let mut disk = Disk { device, queues: Vec::new(), data };
        let mut keys = Vec::from([(key::QUEUES.to_string(), queues.to_string())]);
        for number in 0..queues {
            let prefix = queue_prefix(number, queues);
            let page = page()?;
            let grant = Grant::new(&page, disk.device.peer(), Access::ReadWrite)?;
            let channel = Channel::alloc_unbound(disk.device.peer())?;
            keys.push((format!("{prefix}{}", key::RING_REF), grant.reference().to_string()));
            keys.push((format!("{prefix}{}", key::EVENT_CHANNEL), channel.port().to_string()));
            let ring = FrontRing::new(page.clone());
            disk.queues.push(Queue { ring, page, channel, _grant: grant });
        }
        disk.publish(&keys).await?;
        disk.device.wait_peer(&[State::Connected]).await?;
        disk.device.switch_state(State::Connected).await?;
        Ok(disk)
    }

    async fn publish(&self, keys: &[(String, String)]) -> Result<(), Error> {
        let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (&**key, &**value)).collect();
        self.device.publish(&keys, State::Initialised).await
    }

    /// A request that is fine.
    fn good(&self, operation: Operation) -> Request {
        let mut request = Request { operation: operation.raw(), segments: 1, ..Default::default() };
        request.segment[0] = self.segment(0, 7);
        request
    }

    fn segment(&self, first_sector: u8, last_sector: u8) -> Segment {
        Segment { reference: self.data.reference(), first_sector, last_sector, padding: 0 }
    }

    /// Makes a request and waits for its answer.
    async fn ask(&mut self, queue: usize, request: &Request) -> Result<Response, Error> {
        let queue = &mut self.queues[queue];
        queue.ring.push(request)?;
        let _ = queue.ring.publish();
        queue.channel.notify();
        queue.answer().await
    }
}

impl Queue {
    async fn answer(&mut self) -> Result<Response, Error> {
        loop {
            if let Some(response) = self.ring.pop()? {
                return Ok(response);
            }
            if !self.ring.final_check()? {
                self.channel.wait().await;
            }
        }
    }
}

fn page() -> Result<SharedPage, Error> {
    SharedPage::allocate().map_err(|error| Error::Monitor(error.into()))
}

async fn bad_requests(border: &mut Border, disk: &mut Disk) -> Result<(), Error> {
    let read = disk.good(Operation::Read);
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = read;
        change(&mut request);
        request
    };
    let indirect = IndirectRequest {
        operation: Operation::Indirect.raw(),
        indirect_operation: Operation::Read.raw(),
        segments: 1,
        pages: [NO_GRANT; 8],
        ..Default::default()
    };
    let operation = Operation::Discard.raw();
    let discard = DiscardRequest { operation, sector: NO_SECTOR, sectors: 8, ..Default::default() };
    // The page that is to list segments has data in it: all ones name no grant and no sector.
    disk.data.page().write_bytes(0, &[0xff; PAGE_SIZE]);
    let listed = [disk.data.reference(); 8];
    let requests: [(&str, Request); 13] = [
        ("an unknown operation", with(&|request| request.operation = 77)),
        ("no segments", with(&|request| request.segments = 0)),
        ("too many segments", with(&|request| request.segments = 12)),
        ("a sector beyond the end", with(&|request| request.sector = NO_SECTOR)),
        ("a sector at the end of numbers", with(&|request| request.sector = u64::MAX)),
        ("a grant that is none", with(&|request| request.segment[0].reference = NO_GRANT)),
        (
            "a segment that ends before it begins",
            with(&|request| {
                (request.segment[0].first_sector, request.segment[0].last_sector) = (5, 4);
            }),
        ),
        ("a segment that leaves its page", with(&|request| request.segment[0].last_sector = 8)),
        ("segments in a page that is not granted", indirect.into()),
        ("segments that are noise", IndirectRequest { pages: listed, ..indirect }.into()),
        (
            "more indirect segments than there may be",
            IndirectRequest { segments: u16::MAX, pages: listed, ..indirect }.into(),
        ),
        (
            "an indirect discard",
            IndirectRequest { indirect_operation: operation, pages: listed, ..indirect }.into(),
        ),
        ("a discard beyond the end", discard.into()),
    ];
    for (what, request) in requests {
        let status = disk.ask(0, &request).await?.status;
        border.note(&format!("block: {what}"), status, status < 0);
        let status = disk.ask(0, &read).await?.status;
        if status != Status::Okay.raw() {
            border.note("block: a good request after a bad one", status, false);
        }
    }
    disk.device.switch_state(State::Closing).await?;
    disk.device.switch_state(State::Closed).await
}

/// Changes a request after it was published, again and again.
async fn rewritten(border: &mut Border, disk: &mut Disk) -> Result<(), Error> {
    const SLOT: usize = 64;
    let (mut answered, read) = (0, disk.good(Operation::Read));
    for round in 0..100_u32 {
        // Of a ring with a new connection the first slot is the first request's.
        let slot = SLOT + (round as usize % 32) * size_of::<Request>();
        let queue = &mut disk.queues[0];
        queue.ring.push(&read)?;
        let _ = queue.ring.publish();
        queue.channel.notify();
        for value in 0..200 {
            // Operation and segment count, then the sector, then the grant.
            queue.page.store_u32(slot, value * 0x0101, Ordering::Relaxed);
            queue.page.store_u32(slot + 16, value << 20, Ordering::Relaxed);
            queue.page.store_u32(slot + 24, value, Ordering::Relaxed);
        }
        let status = queue.answer().await?.status;
        answered += i64::from(Status::from_raw(status).is_some());
    }
    border.note("block: requests that change when they are published", answered, answered == 100);
    disk.device.switch_state(State::Closing).await?;
    disk.device.switch_state(State::Closed).await
}

/// Two queues serve one disk.
async fn two_queues(border: &mut Border, disk: &mut Disk) -> Result<(), Error> {
    let write = disk.good(Operation::Write);
    let read = disk.good(Operation::Read);
    disk.data.page().write_bytes(0, b"queue");
    let mut statuses = disk.ask(0, &write).await?.status;
    disk.data.page().write_bytes(0, b"?????");
    statuses |= disk.ask(1, &read).await?.status;
    let mut bytes = [0; 5];
    disk.data.page().read_bytes(0, &mut bytes);
    let served = statuses == Status::Okay.raw() && &bytes == b"queue";
    border.note("block: two queues serve one disk", statuses, served);
    disk.device.switch_state(State::Closing).await?;
    disk.device.switch_state(State::Closed).await
}

async fn written_though_read_only(border: &mut Border, disk: &mut Disk) -> Result<(), Error> {
    let status = disk.ask(0, &disk.good(Operation::Write)).await?.status;
    border.note("block: a write to a disk that is read-only", status, status < 0);
    disk.device.switch_state(State::Closing).await?;
    disk.device.switch_state(State::Closed).await
}

/// Offers that the backend must refuse: it stays closed after the first.
async fn bad_offers(border: &mut Border, store: &Client, path: &str) -> Result<(), Error> {
    let device = Device::frontend(store, path).await?;
    device.wait_peer_return(&[State::InitWait]).await?;
    let data = Grant::new(&page()?, device.peer(), Access::ReadWrite)?;
    let disk = Disk { device, queues: Vec::new(), data };
    disk.publish(&[(key::QUEUES.to_string(), "5000".to_string())]).await?;
    let state = disk.device.wait_peer_return(&[State::Closing, State::Closed]).await?;
    border.note("block: five thousand queues", i64::from(state.raw()), true);
    Ok(())
}

/// Claims to have made more requests than the ring has slots.
async fn bad_ring(border: &mut Border, disk: &mut Disk) -> Result<(), Error> {
    let queue = &mut disk.queues[0];
    queue.page.store_u32(0, 100_000, Ordering::SeqCst);
    queue.channel.notify();
    let state = disk.device.wait_peer_return(&[State::Closing, State::Closed]).await?;
    border.note("block: more requests than the ring has slots", i64::from(state.raw()), true);
    time::sleep(Duration::from_millis(10)).await;
    Ok(())
}
