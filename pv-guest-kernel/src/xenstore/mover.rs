//! Moves bytes between a session and its ring.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use abi::Errno;
use abi::xenstore::RING_SIZE;
use futures_util::future::select;

use super::ring::Ring;
use super::session::Shared;
use crate::event::Channel;

/// Runs as long as the connection is of use.
pub(super) async fn run(session: Shared, ring: Ring, channel: Channel) {
    let Err(error) = serve(&session, &ring, &channel).await;
    log::error!("xenstore: the connection is broken: {error}");
    session.borrow_mut().fail(error);
}

async fn serve(
    session: &Shared,
    ring: &Ring,
    channel: &Channel,
) -> Result<core::convert::Infallible, Errno> {
    loop {
        let sent = ring.is_connected() && send(session, ring)?;
        let received = ring.is_connected() && receive(session, ring)?;
        if sent || received {
            // New bytes, or new room for the store's: either may be what it waits for.
            channel.notify();
            continue;
        }
        // What could not be sent now waits for the event that says that there is room again, or
        // that the store is back.
        let stalled = !ring.is_connected() || !session.borrow().outgoing().is_empty();
        let more = pin!(poll_fn(|context| match stalled {
            true => Poll::Pending,
            false => session.borrow_mut().poll_outgoing(context),
        }));
        select(pin!(channel.wait()), more).await;
    }
}

fn send(session: &Shared, ring: &Ring) -> Result<bool, Errno> {
    let mut session = session.borrow_mut();
    let count = ring.send(session.outgoing())?;
    session.sent(count);
    Ok(count > 0)
}

fn receive(session: &Shared, ring: &Ring) -> Result<bool, Errno> {
    let mut bytes = [0; RING_SIZE];
    let count = ring.receive(&mut bytes)?;
    session.borrow_mut().received(bytes.get(..count).unwrap_or_default())?;
    Ok(count > 0)
}
