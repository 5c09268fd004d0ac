//! Network frontends that break the protocol: the backend must close each, and nothing else.

use alloc::string::ToString;
use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::net::{TxFlags, TxRequest, TxResponse, key};
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
    for (path, (what, offend)) in interfaces.iter().zip(OFFENCES) {
        let closed = match attempt(store, path, offend).await {
            Ok(state) => state.is_going(),
            Err(error) => matches!(error, Error::Gone(_)),
        };
        border.note(what, 0, closed);
    }
}

/// Connects, offends, and waits for what the backend does.
async fn attempt(
    store: &Client,
    path: &str,
    offend: fn(&mut Ring, &SharedPage, GrantRef),
) -> Result<State, Error> {
    let device = Device::frontend(store, path).await?;
    device.wait_peer_return(&[State::InitWait]).await?;
    let backend = device.peer();
    let page = || SharedPage::allocate().map_err(|error| Error::Monitor(error.into()));
    let (tx, rx, data) = (page()?, page()?, page()?);
    let mut ring = Ring::new(tx.clone());
    let grants = [
        Grant::new(&tx, backend, Access::ReadWrite)?,
        Grant::new(&rx, backend, Access::ReadWrite)?,
        Grant::new(&data, backend, Access::ReadOnly)?,
    ];
    let channel = Channel::alloc_unbound(backend)?;
    let [tx_ring, rx_ring, reference] = grants.each_ref().map(Grant::reference);
    let (tx_ring, rx_ring) = (tx_ring.to_string(), rx_ring.to_string());
    let port = channel.port().to_string();
    let keys = [
        (key::TX_RING, tx_ring.as_str()),
        (key::RX_RING, &rx_ring),
        (key::EVENT_CHANNEL, &port),
        (key::REQUEST_RX_COPY, "1"),
    ];
    device.publish(&keys, State::Connected).await?;
    device.wait_peer(&[State::Connected]).await?;
    offend(&mut ring, &tx, reference);
    if tx.load_u32(0, Ordering::Relaxed) == 0 {
        let _ = ring.publish();
    }
    channel.notify();
    device.wait_peer_return(&[State::Closing, State::Closed]).await
}
