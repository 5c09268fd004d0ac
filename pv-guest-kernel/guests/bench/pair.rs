//! What takes two domains: this one measures, the partner answers.

use core::time::Duration;

use pv_guest_kernel::abi::{DomId, Errno, Port};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, GrantError, Mapping};
use pv_guest_kernel::hypercall::{event_channel, sched};
use pv_guest_kernel::time;

use crate::machine::grant::Remapping;
use crate::machine::interrupt;
use crate::partner::{ORDER, Order, SPARE, Task};
use crate::report::{Failure, Report};

/// The row that occupies the partner's CPU.
const YIELD: &str = "yield-two-domains";
/// Where the partner's port is looked for.
const PORTS: core::ops::Range<u32> = 1..64;
/// How long a partner may take to boot.
const ROUNDS: u32 = 500;
const ROUND: Duration = Duration::from_millis(10);

/// Measures it.
///
/// # Errors
/// There is no partner.
pub async fn rows(report: &Report, peer: DomId) -> Result<(), Failure> {
    let channel = find(peer).await?;
    let mapping = Mapping::new(peer, &[ORDER], Access::ReadWrite).map_err(failure)?;
    let order = Order(mapping.page(0));
    let port = channel.port();
    interrupt::watch(port);

    order.give(Task::Answer);
    report
        .row("ping-pong", |ruler| {
            let seen = interrupt::count();
            let (ticks, sent) = ruler.time(|| {
                let sent = event_channel::send(port);
                interrupt::sleep_past(seen);
                sent
            });
            sent.map(|()| ticks).map_err(Failure::from)
        })
        .await;

    // On two CPUs both would spin, under the ruler for ever.
    if report.wants(YIELD) {
        order.give(Task::Yield);
        event_channel::send(port)?;
        report.row(YIELD, |ruler| Ok(ruler.time(sched::yield_now).0)).await;
    }

    order.give(Task::Sleep);
    let mut remapping = Remapping::new(peer, SPARE)?;
    report
        .row("map-unmap", |ruler| {
            let (ticks, done) = ruler.time(|| remapping.make());
            done?;
            remapping.check().map(|()| ticks)
        })
        .await;

    order.give(Task::Leave);
    event_channel::send(port).map_err(Failure::from)
}

/// Binds the port that the partner has left open for this domain.
async fn find(peer: DomId) -> Result<Channel, Failure> {
    for _ in 0..ROUNDS {
        let mut ports = PORTS.map(Port);
        if let Some(channel) = ports.find_map(|port| Channel::bind_interdomain(peer, port).ok()) {
            return Ok(channel);
        }
        time::sleep(ROUND).await;
    }
    Err(Failure::Wrong("no partner"))
}

fn failure(error: GrantError) -> Failure {
    match error {
        GrantError::Refused { status, .. } => Failure::Status(status),
        other => Failure::Call(Errno::from(other)),
    }
}
