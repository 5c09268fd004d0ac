//! Sending events, and waking those who wait for them.

use abi::device_tree::EVENT_PPI;
use abi::event::Virq;
use abi::{DomId, Errno, Port, VcpuId};

use super::two_level::{self, Effect};
use super::{Binding, Channel, EventTable, is_global};
use crate::allocator::Monitor;
use crate::allocator::domain::Domain;
use crate::allocator::interrupt::Loaded;
use crate::allocator::vcpu::{InfoPlace, Polling};
use crate::machine::memory::RamFrame;
use crate::machine::percpu;
use crate::types::{MAX_VCPUS, VcpuKey};

const _: () = assert!(MAX_VCPUS <= u8::BITS as usize, "pollers has a bit for each vCPU");

/// A port that has become pending, of which its vCPU or whoever polls is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a vCPU that is not told may sleep for ever"]
pub struct Announcement {
    receiver: DomId,
    port: Port,
    /// Whether it is only for those who poll.
    masked: bool,
}

impl Monitor {
    /// Sends an event on a port of `sender`. Without a peer it goes nowhere. `EINVAL` if the port
    /// is not one to send on.
    pub fn event_send(&mut self, sender: DomId, port: Port) -> Result<(), Errno> {
        if let Some(announcement) = self.event_mark(sender, port)? {
            self.announce(announcement);
        }
        Ok(())
    }

    /// The first half of sending an event, which is often the whole: makes the peer's port
    /// pending, and returns what is to be announced.
    #[inline(always)]
    pub fn event_mark(&mut self, sender: DomId, port: Port) -> Result<Option<Announcement>, Errno> {
        let domain = self.domains.get(sender).ok_or(Errno::ESRCH)?;
        let channel = domain.events.channel(port).ok_or(Errno::EINVAL)?;
        match channel.binding {
            Binding::Interdomain { remote, port } => Ok(self.set_pending(remote, port)),
            Binding::Ipi => Ok(self.set_pending(sender, port)),
            Binding::Unbound { .. } => Ok(None),
            Binding::Closed | Binding::Virq(_) => Err(Errno::EINVAL),
        }
    }

    /// Makes an open port of `receiver` pending. If it is so already, that is all: whoever made it
    /// so has announced it. Nor need anyone hear of one that is masked, but for those who poll.
    #[inline(always)]
    fn set_pending(&mut self, receiver: DomId, port: Port) -> Option<Announcement> {
        let domain = self.domains.get(receiver)?;
        if !two_level::set_pending(domain.shared_info, port) {
            return None;
        }
        let masked = two_level::is_masked(domain.shared_info, port);
        let audible = !masked || domain.events.pollers != 0;
        audible.then_some(Announcement { receiver, port, masked })
    }

    /// Makes an open port of `receiver` pending, and tells whom it concerns.
    pub(super) fn raise_event(&mut self, receiver: DomId, port: Port) {
        if let Some(announcement) = self.set_pending(receiver, port) {
            self.announce(announcement);
        }
    }

    /// Tells a vCPU, and those that poll, of a port that has become pending.
    #[inline(always)]
    pub fn announce(&mut self, announcement: Announcement) {
        let Announcement { receiver, port, masked } = announcement;
        let Some(domain) = self.domains.get_mut(receiver) else { return };
        if domain.events.pollers != 0 {
            return self.announce_to_pollers(announcement);
        }
        let Some(&Channel { vcpu, .. }) = domain.events.channel(port) else { return };
        if masked {
            return;
        }
        let interrupt = write_news(domain, vcpu, |_, info| two_level::announce(info, port));
        if interrupt == Interrupt::Elsewhere {
            self.raise_elsewhere(VcpuKey { domain: receiver, vcpu }, EVENT_PPI);
        }
    }

    #[cold]
    fn announce_to_pollers(&mut self, Announcement { receiver, port, masked }: Announcement) {
        self.wake_pollers(receiver, port);
        let domain = self.domains.get(receiver);
        if let Some(&Channel { vcpu, .. }) = domain.and_then(|domain| domain.events.channel(port))
            && !masked
        {
            let key = VcpuKey { domain: receiver, vcpu };
            self.tell(key, |_, info| two_level::announce(info, port));
        }
    }

    /// Unmasks a port and delivers what it held back. For ports whose vCPU is not the caller, or
    /// that were pending meanwhile. `EINVAL` if the table has no such port.
    pub fn event_unmask(&mut self, id: DomId, port: Port) -> Result<(), Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        let channel = domain.events.channel(port).ok_or(Errno::EINVAL)?;
        if channel.binding != Binding::Closed {
            let key = VcpuKey { domain: id, vcpu: channel.vcpu };
            self.tell(key, |shared, info| two_level::unmask(shared, info, port));
        }
        Ok(())
    }

    /// Whether a port is pending. `EINVAL` if the table has no such port.
    pub fn event_pending(&self, id: DomId, port: Port) -> Result<bool, Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        domain.events.channel(port).ok_or(Errno::EINVAL)?;
        Ok(two_level::is_pending(domain.shared_info, port))
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
        if let Some(port) = port.filter(|&port| port != EventTable::NO_PORT) {
            self.raise_event(key.domain, port);
        }
    }

    /// Tells a vCPU to look at all its events: it has just registered its `vcpu_info` and may have
    /// missed some.
    pub fn replay_events(&mut self, key: VcpuKey) {
        self.tell(key, |_, info| two_level::select(info, u64::MAX));
    }

    /// Interrupts a vCPU again that has an upcall coming: it has been off, and what stood in its
    /// list registers is lost.
    pub fn repeat_upcall(&mut self, key: VcpuKey) {
        self.tell(key, |_, info| two_level::repeat(info));
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
    fn tell(&mut self, key: VcpuKey, news: impl FnOnce(RamFrame, Option<InfoPlace>) -> Effect) {
        let Some(domain) = self.domains.get_mut(key.domain) else { return };
        if write_news(domain, key.vcpu, news) == Interrupt::Elsewhere {
            self.raise_elsewhere(key, EVENT_PPI);
        }
    }

    /// Wakes the vCPUs that poll this port.
    #[cold]
    fn wake_pollers(&mut self, id: DomId, port: Port) {
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
    /// It is not in this CPU and needs an interrupt.
    Elsewhere,
}

/// Writes news into a domain's shared page and a vCPU's record, and interrupts the vCPU if that is
/// what they need and it is in this CPU.
#[inline(always)]
fn write_news(
    domain: &mut Domain,
    vcpu: VcpuId,
    news: impl FnOnce(RamFrame, Option<InfoPlace>) -> Effect,
) -> Interrupt {
    let (shared_info, enabled) = (domain.shared_info, domain.interrupts.enabled);
    let Some(vcpu) = domain.vcpu_mut(vcpu) else { return Interrupt::Done };
    if news(shared_info, vcpu.info) != Effect::Upcall {
        return Interrupt::Done;
    }
    vcpu.events = vcpu.events.wrapping_add(1);
    if percpu::running() != vcpu.key {
        return Interrupt::Elsewhere;
    }
    vcpu.interrupts.present(enabled, &mut Loaded, EVENT_PPI);
    Interrupt::Done
}
