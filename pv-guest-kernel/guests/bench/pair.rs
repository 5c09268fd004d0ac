//! What takes two domains: this one measures, the partner answers.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use pv_guest_kernel::abi::{DomId, Errno, GrantRef, Port};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, GrantError, Mapping};
use pv_guest_kernel::hypercall::{event_channel, sched};
use pv_guest_kernel::time;

use crate::inbox::Inbox;
use crate::machine::grant::Remapping;
use crate::machine::interrupt::{self, Handler};
use crate::partner::{self, ORDER, Order, SPARE, Task};
use crate::report::{Failure, Report};

/// The row that occupies the partner's CPU.
const YIELD: &str = "yield-two-domains";
/// Where the partner's port is looked for.
const PORTS: Range<u32> = 1..64;
/// How long a partner may take to boot.
const ROUNDS: u32 = 500;
const ROUND: Duration = Duration::from_millis(10);

/// The partner, found.
#[derive(Debug)]
pub struct Pair {
    peer: DomId,
    channel: Channel,
    order: Order,
    /// More of its grants, mapped and not used.
    _others: Option<Mapping>,
}

impl Pair {
    /// Finds the partner, and maps `others` of its grants beside those that are used.
    ///
    /// # Errors
    /// It is not there, or the monitor does not let it share.
    pub async fn find(peer: DomId, others: u32) -> Result<Pair, Failure> {
        let channel = find(peer).await?;
        let mapping = Mapping::new(peer, &[ORDER], Access::ReadWrite).map_err(failure)?;
        let references: Vec<GrantRef> = partner::others(others).collect();
        let others = match references.is_empty() {
            true => None,
            false => Some(Mapping::new(peer, &references, Access::ReadOnly).map_err(failure)?),
        };
        Ok(Pair { peer, channel, order: Order(mapping.page(0)), _others: others })
    }

    /// Measures, and dismisses the partner.
    ///
    /// # Errors
    /// The partner cannot be told what to do.
    pub async fn rows(self, report: &Report) -> Result<(), Failure> {
        let port = self.channel.port();
        let inbox = Inbox::of(port)?;
        let handler = Handler::install();
        self.order.give(Task::Answer);
        report
            .row("ping-pong", |ruler| {
                let seen = interrupt::last();
                let (ticks, sent) = ruler.time(|| {
                    let sent = event_channel::send(port);
                    handler.sleep_past(seen);
                    inbox.clear();
                    sent
                });
                sent.map(|()| ticks).map_err(Failure::from)
            })
            .await;
        drop(handler);

        // On two CPUs both would spin, under the ruler for ever.
        if report.wants(YIELD) {
            self.order.give(Task::Yield);
            event_channel::send(port)?;
            report.row(YIELD, |ruler| Ok(ruler.time(sched::yield_now).0)).await;
        }

        self.order.give(Task::Sleep);
        let mut remapping = Remapping::new(self.peer, SPARE)?;
        report
            .row("map-unmap", |ruler| {
                let (ticks, done) = ruler.time(|| remapping.make());
                done?;
                remapping.check().map(|()| ticks)
            })
            .await;

        self.order.give(Task::Leave);
        event_channel::send(port).map_err(Failure::from)
    }
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
