//! Events that this domain sends to itself, through a channel that has both ends here.

use pv_guest_kernel::event::Channel;
use pv_guest_kernel::hypercall::event_channel;

use crate::inbox::Inbox;
use crate::machine::interrupt::{self, Handler};
use crate::report::{Failure, Report};

/// Measures them.
///
/// # Errors
/// The channel cannot be made.
pub async fn rows(report: &Report) -> Result<(), Failure> {
    let (sender, receiver) = Channel::loopback()?;
    let inbox = Inbox::of(receiver.port())?;
    let port = sender.port();
    inbox.set_masked(true);
    report
        .row("send-pending", |ruler| {
            let (ticks, sent) = ruler.time(|| event_channel::send(port));
            sent?;
            inbox.is_pending().then_some(ticks).ok_or(Failure::Wrong("the event is not pending"))
        })
        .await;
    report
        .row("send-masked", |ruler| {
            inbox.clear();
            let (ticks, sent) = ruler.time(|| event_channel::send(port));
            sent?;
            inbox.is_pending().then_some(ticks).ok_or(Failure::Wrong("the event is not pending"))
        })
        .await;
    inbox.clear();
    inbox.set_masked(false);
    let handler = Handler::install();
    report
        .row("event-full", |ruler| {
            let seen = interrupt::last();
            handler.unmask();
            let (ticks, sent) = ruler.time(|| {
                let sent = event_channel::send(port);
                handler.spin_past(seen);
                inbox.clear();
                sent
            });
            handler.mask();
            sent.map(|()| ticks).map_err(Failure::from)
        })
        .await;
    Ok(())
}
