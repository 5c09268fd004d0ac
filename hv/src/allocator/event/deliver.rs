//! Sending events, and waking those who wait for them.

use abi::device_tree::EVENT_PPI;
use abi::event::Virq;
use abi::{DomId, Errno, Port, VcpuId};

use super::news::News;
use super::upcall::{self, Effect};
use super::{Abi, Binding, Channel, EventTable, NO_PORT, is_global, two_level};
use crate::allocator::Monitor;
use crate::allocator::domain::Domain;
use crate::allocator::interrupt::Loaded;
use crate::allocator::vcpu::{InfoPlace, Polling};
use crate::machine::percpu;
use crate::types::{MAX_VCPUS, VcpuKey};

const _: () = assert!(MAX_VCPUS <= u8::BITS as usize, "pollers has a bit for each vCPU");

/// What is left to do for a port on which an event was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a vCPU that is not told may sleep for ever"]
pub struct Announcement {
    receiver: DomId,
    port: Port,
    news: News,
}

impl Monitor {
    /// Sends an event on a port of `sender`, which is running. Without a peer it goes nowhere. `EINVAL` if the port
    /// is not one to send on.
    pub fn event_send(&mut self, sender: DomId, port: Port) -> Result<(), Errno> {
        if let Some(announcement) = self.event_mark(sender, port)? {
            self.announce(announcement);
        }
        Ok(())
    }

    /// The first half of sending an event, which is often the whole: makes the peer's port
    /// pending, and returns what is to be announced. `sender` is running.
    #[inline(always)]
    pub fn event_mark(&mut self, sender: DomId, port: Port) -> Result<Option<Announcement>, Errno> {
        let domain = self.domains.running(sender).ok_or(Errno::ESRCH)?;
        let channel = domain.events.ports.get(port).ok_or(Errno::EINVAL)?;
        let Some(news) = channel.target.set() else { return Ok(None) };
        match (channel.leads_to(sender, port), channel.binding) {
            (Some((receiver, port)), _) => Ok(self.audible(Announcement { receiver, port, news })),
            (None, Binding::Unbound { .. }) => Ok(None),
            (None, _) => Err(Errno::EINVAL),
        }
    }

    /// An announcement that somebody needs to hear. Of a port that is masked only those who poll
    /// do.
    #[inline(always)]
    fn audible(&self, announcement: Announcement) -> Option<Announcement> {
        let polled = || {
            let receiver = self.domains.get(announcement.receiver);
            receiver.is_some_and(|domain| domain.events.pollers != 0)
        };
        (announcement.news != News::PendingMasked || polled()).then_some(announcement)
    }

    /// Makes an open port of `receiver` pending, and tells whom it concerns.
    pub(super) fn raise_event(&mut self, receiver: DomId, port: Port) {
        let Some(domain) = self.domains.get(receiver) else { return };
        if let Some(news) = domain.events.pending_bit(port).set() {
            self.announce(Announcement { receiver, port, news });
        }
    }

    /// Tells a vCPU, and those that poll, of a port that has become pending.
    #[inline(always)]
    pub fn announce(&mut self, announcement: Announcement) {
        let Announcement { receiver, port, news } = announcement;
        let Some(domain) = self.domains.get_mut(receiver) else { return };
        // What calls nothing is kept apart from what does: it needs no registers saved.
        let simple = matches!(domain.events.abi, Abi::TwoLevel) && domain.events.pollers == 0;
        if news != News::Pending || !simple {
            return self.announce_otherwise(announcement);
        }
        let Some(&Channel { vcpu, .. }) = domain.events.ports.get(port) else { return };
        let interrupt = write_news(domain, vcpu, |_, info| two_level::announce(info, port));
        if interrupt == Interrupt::Elsewhere {
            self.wake(VcpuKey { domain: receiver, vcpu });
        }
    }

    /// The same for a port that joins a queue, or of which somebody else than its vCPU is to hear,
    /// or nobody yet.
    #[inline(never)]
    fn announce_otherwise(&mut self, Announcement { receiver, port, news }: Announcement) {
        if news != News::Unheard {
            self.wake_pollers(receiver, port);
        }
        let domain = self.domains.get_mut(receiver);
        let channel = domain.and_then(|domain| domain.events.ports.get_mut(port));
        let Some(channel) = channel else { return };
        let key = VcpuKey { domain: receiver, vcpu: channel.vcpu };
        match news {
            News::Pending => self.tell(key, |events, info| events.announce(port, info)),
            News::PendingMasked => {}
            News::Unheard => channel.fifo.unheard = true,
        }
    }

    /// Unmasks a port and delivers what it held back. For ports whose vCPU is not the caller, or
    /// that were pending meanwhile. `EINVAL` if the table has no such port.
    pub fn event_unmask(&mut self, id: DomId, port: Port) -> Result<(), Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        let channel = domain.events.ports.get(port).ok_or(Errno::EINVAL)?;
        if channel.is_open() {
            let key = VcpuKey { domain: id, vcpu: channel.vcpu };
            self.tell(key, |events, info| events.unmask(port, info));
        }
        Ok(())
    }

    /// Whether a port is pending. `EINVAL` if the table has no such port.
    pub fn event_pending(&self, id: DomId, port: Port) -> Result<bool, Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        domain.events.ports.get(port).ok_or(Errno::EINVAL)?;
        Ok(domain.events.pending_bit(port).is_set())
    }

    /// A global virtual interrupt occurs. Lost if the domain has not bound it.
    pub fn raise_virq(&mut self, id: DomId, virq: Virq) {
        debug_assert!(is_global(virq), "{virq:?} is a vCPU's own");
        self.raise_vcpu_virq(VcpuKey { domain: id, vcpu: VcpuId(0) }, virq);
    }

    /// A vCPU's own virtual interrupt occurs. Lost if it is not bound.
    pub fn raise_vcpu_virq(&mut self, key: VcpuKey, virq: Virq) {
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        let port = domain.events.virq_port(virq, key.vcpu).copied();
        if let Some(port) = port.filter(|&port| port != NO_PORT) {
            self.raise_event(key.domain, port);
        }
    }

    /// Tells a vCPU to look at all its events: it has just registered its `vcpu_info` and may have
    /// missed some.
    pub fn replay_events(&mut self, key: VcpuKey) {
        self.tell(key, |_, info| two_level::look_at(info, u64::MAX));
    }

    /// Interrupts a vCPU again that has an upcall coming: it has been off, and what stood in its
    /// list registers is lost.
    pub fn repeat_upcall(&mut self, key: VcpuKey) {
        self.tell(key, |_, info| upcall::repeat(info));
    }

    /// Notes what a vCPU that is about to sleep in `SCHEDOP_poll` waits for. An event that becomes
    /// pending ends it and wakes the vCPU; so does the caller, with [`Polling::No`], if the vCPU
    /// wakes for another reason.
    pub fn set_polling(&mut self, key: VcpuKey, polling: Polling) {
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        let Some(vcpu) = domain.vcpu_mut(key.vcpu) else { return };
        vcpu.polling = polling;
        let bit = 1 << (key.vcpu.0 % u8::BITS);
        match polling {
            Polling::No => domain.events.pollers &= !bit,
            Polling::Port(_) | Polling::Any => domain.events.pollers |= bit,
        }
    }

    /// Writes news for a vCPU, and interrupts it if that is what they need.
    fn tell(
        &mut self,
        key: VcpuKey,
        news: impl FnOnce(&mut EventTable, Option<InfoPlace>) -> Effect,
    ) {
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        if write_news(domain, key.vcpu, news) == Interrupt::Elsewhere {
            self.wake(key);
        }
    }

    /// Wakes the vCPUs that poll this port.
    fn wake_pollers(&mut self, id: DomId, port: Port) {
        if self.domains.get(id).is_none_or(|domain| domain.events.pollers == 0) {
            return;
        }
        for number in 0..MAX_VCPUS as u32 {
            let key = VcpuKey { domain: id, vcpu: VcpuId(number) };
            let vcpu = self.domains.get(id).and_then(|domain| domain.vcpu(key.vcpu));
            let waits = match vcpu.map_or(Polling::No, |vcpu| vcpu.polling) {
                Polling::No => false,
                Polling::Port(polled) => polled == port,
                Polling::Any => true,
            };
            if waits {
                self.set_polling(key, Polling::No);
                self.wake(key);
            }
        }
    }
}

/// What is left to do for a vCPU that has got news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    /// Nothing: it needs no interrupt, or has got it.
    Done,
    /// It is not in this CPU, and is to take its interrupt where it is.
    Elsewhere,
}

/// Writes news into a domain's event words and a vCPU's record, and makes its interrupt pending if
/// that is what they need.
#[inline(always)]
fn write_news(
    domain: &mut Domain,
    vcpu: VcpuId,
    news: impl FnOnce(&mut EventTable, Option<InfoPlace>) -> Effect,
) -> Interrupt {
    let Domain { id, events, vcpus, interrupts, .. } = domain;
    let key = VcpuKey { domain: *id, vcpu };
    let vcpu = vcpus.get_mut(vcpu.0 as usize).and_then(Option::as_deref_mut);
    let Some(vcpu) = vcpu else { return Interrupt::Done };
    if news(events, vcpu.info) != Effect::Upcall {
        return Interrupt::Done;
    }
    vcpu.events = vcpu.events.wrapping_add(1);
    if percpu::running() != key {
        vcpu.interrupts.put_by(EVENT_PPI);
        return Interrupt::Elsewhere;
    }
    vcpu.interrupts.present(interrupts.enabled, &mut Loaded, EVENT_PPI);
    Interrupt::Done
}
