//! Network frontends that break the protocol: the backend must refuse what they ask for or close them,
//! and nothing else.

use alloc::format;
use alloc::string::ToString;
use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::net::{TxFlags, TxRequest, TxResponse, TxStatus, key};
use pv_guest_kernel::abi::ring::FrontRing;
use pv_guest_kernel::abi::{GrantRef, PAGE_SIZE};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::xenbus::{Device, Error, State, frontends};
use pv_guest_kernel::xenstore::Client;

use crate::border::Border;

type Ring = FrontRing<SharedPage, TxRequest, TxResponse>;

/// What a frontend does wrong, given its ring, the ring's page, and a grant that works.
type Offence = (&'static str, fn(&mut Ring, &SharedPage, GrantRef));

const OFFENCES: [Offence; 5] = [
    ("net: a frame that leaves its page", |ring, _, reference| {
        send(ring, TxRequest { reference, offset: PAGE_SIZE as u16 - 10, size: 60, ..slot() });
    }),
    ("net: a grant that is none", |ring, _, _| {
        send(ring, TxRequest { reference: GrantRef(100_000), size: 60, ..slot() });
    }),
    ("net: a frame of 19 slots", |ring, _, reference| {
        for index in 0..19 {
            let flags = if index < 18 { TxFlags::MORE_DATA.bits() } else { 0 };
            let size = if index == 0 { 1000 } else { 10 };
            send(ring, TxRequest { reference, size, flags, ..slot() });
        }
    }),
    ("net: extra information of no known kind", |ring, _, reference| {
        let flags = TxFlags::EXTRA_INFO.bits();
        send(ring, TxRequest { reference, size: 60, flags, ..slot() });
        send(ring, TxRequest { reference: GrantRef(0xff), ..slot() });
    }),
    ("net: more requests than the ring has slots", |_, page, _| {
        // The request producer is the page's first word.
        page.store_u32(0, 100_000, Ordering::SeqCst);
    }),
];

fn slot() -> TxRequest {
    TxRequest::default()
}

fn send(ring: &mut Ring, request: TxRequest) {
    // There is room, and whether to notify is not asked: it is done in any case.
    let _ = ring.push(&request);
}

/// Has each of this domain's interfaces do something wrong, if it has any.
pub async fn attempts(border: &mut Border, store: &Client) {
    let interfaces = frontends(store, "vif").await.unwrap_or_default();
    let mut interfaces = interfaces.iter();
    for ((what, offend), path) in OFFENCES.into_iter().zip(interfaces.by_ref()) {
        let result = async { Frontend::connect(store, path).await?.offend(offend).await };
        border.note(what, 0, is_closed(result.await));
    }
    let (Some(long), Some(changing)) = (interfaces.next(), interfaces.next()) else { return };
    let result = async { too_long(border, &mut Frontend::connect(store, long).await?).await };
    if let Err(error) = result.await {
        border.note(&format!("net: too long a frame, and then: {error}"), 0, false);
    }
    let result = async { rewritten(border, &mut Frontend::connect(store, changing).await?).await };
    if let Err(error) = result.await {
        border.note(&format!("net: frames that change, and then: {error}"), 0, false);
    }
}

fn is_closed(result: Result<State, Error>) -> bool {
    match result {
        Ok(state) => state.is_going(),
        Err(error) => matches!(error, Error::Gone(_)),
    }
}

/// A connected interface, and a granted page for data.
struct Frontend {
    device: Device,
    ring: Ring,
    /// The ring's page.
    page: SharedPage,
    channel: Channel,
    data: Grant,
    _rings: [Grant; 2],
}

impl Frontend {
    async fn connect(store: &Client, path: &str) -> Result<Frontend, Error> {
        let device = Device::frontend(store, path).await?;
        device.wait_peer_return(&[State::InitWait]).await?;
        let backend = device.peer();
        let page = || SharedPage::allocate().map_err(|error| Error::Monitor(error.into()));
        let (tx, rx, data) = (page()?, page()?, page()?);
        let ring = Ring::new(tx.clone());
        let rings = [
            Grant::new(&tx, backend, Access::ReadWrite)?,
            Grant::new(&rx, backend, Access::ReadWrite)?,
        ];
        let data = Grant::new(&data, backend, Access::ReadOnly)?;
        let channel = Channel::alloc_unbound(backend)?;
        let [tx_ring, rx_ring] = rings.each_ref().map(|grant| grant.reference().to_string());
        let port = channel.port().to_string();
        let keys = [
            (key::TX_RING, tx_ring.as_str()),
            (key::RX_RING, &rx_ring),
            (key::EVENT_CHANNEL, &port),
            (key::REQUEST_RX_COPY, "1"),
        ];
        device.publish(&keys, State::Connected).await?;
        device.wait_peer(&[State::Connected]).await?;
        Ok(Frontend { device, ring, page: tx, channel, data, _rings: rings })
    }

    /// Offends, and waits for what the backend does.
    async fn offend(
        &mut self,
        offend: fn(&mut Ring, &SharedPage, GrantRef),
    ) -> Result<State, Error> {
        offend(&mut self.ring, &self.page, self.data.reference());
        if self.page.load_u32(0, Ordering::Relaxed) == 0 {
            let _ = self.ring.publish();
        }
        self.channel.notify();
        self.device.wait_peer_return(&[State::Closing, State::Closed]).await
    }

    /// Sends a frame of these slots.
    fn send(&mut self, slots: impl IntoIterator<Item = TxRequest>) {
        slots.into_iter().for_each(|request| send(&mut self.ring, request));
        let _ = self.ring.publish();
        self.channel.notify();
    }

    async fn answer(&mut self) -> Result<i16, Error> {
        loop {
            if let Some(response) = self.ring.pop()? {
                return Ok(response.status);
            }
            if !self.ring.final_check()? {
                self.channel.wait().await;
            }
        }
    }
}

/// A frame that is longer than others of the network can be, and not to be cut, is answered with an
/// error. The next one is served.
async fn too_long(border: &mut Border, frontend: &mut Frontend) -> Result<(), Error> {
    let reference = frontend.data.reference();
    let more = TxFlags::MORE_DATA.bits();
    let slots = [(9000, more), (4096, more), (4000, 0)];
    frontend.send(slots.map(|(size, flags)| TxRequest { reference, size, flags, ..slot() }));
    let mut refused = true;
    for _ in slots {
        refused &= frontend.answer().await? == TxStatus::Error.raw();
    }
    border.note("net: a frame of 9000 bytes", 0, refused);
    frontend.send([TxRequest { reference, size: 1514, ..slot() }]);
    let status = frontend.answer().await?;
    border.note("net: a frame of 1514 bytes after it", status, status == TxStatus::Okay.raw());
    Ok(())
}

/// Requests that change while the backend reads them are taken for what they were at one moment. When
/// they make no sense any more, the interface is closed.
async fn rewritten(border: &mut Border, frontend: &mut Frontend) -> Result<(), Error> {
    const SLOT: usize = 64;
    let reference = frontend.data.reference();
    let request = TxRequest { reference, size: 60, ..slot() };
    let mut answered = 0;
    for round in 0..100 {
        let slot = SLOT + round * size_of::<TxRequest>();
        frontend.send([request]);
        for value in 0..200 {
            // Flags and offset, then size and identifier, then the frame itself.
            frontend.page.store_u32(slot + 4, value, Ordering::Relaxed);
            frontend.page.store_u32(slot + 8, (60 + value) << 16, Ordering::Relaxed);
            frontend.data.page().store_u32(12, value, Ordering::Relaxed);
        }
        answered += i64::from(frontend.answer().await? == TxStatus::Okay.raw());
    }
    border.note("net: requests that change when they are published", answered, answered == 100);
    for round in 100..200 {
        let slot = SLOT + round * size_of::<TxRequest>();
        frontend.send([request]);
        for value in 0..200_u32 {
            let garbage = value.wrapping_mul(0x9e37_79b1);
            (0..3).for_each(|word| {
                frontend.page.store_u32(slot + word * 4, garbage, Ordering::Relaxed)
            });
        }
    }
    // If none of it was read in time, this one is.
    frontend.send([TxRequest { reference: GrantRef(100_000), ..request }]);
    let closed = frontend.device.wait_peer_return(&[State::Closing, State::Closed]).await;
    border.note("net: requests that become nonsense", 0, is_closed(closed));
    Ok(())
}
