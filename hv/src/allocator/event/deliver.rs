//! Sending events, and waking those who wait for them.

use abi::event::Virq;
use abi::{DomId, Errno, Port, VcpuId};

use super::two_level::{self, Effect};
use super::{Binding, EventTable, is_global};
use crate::allocator::Monitor;
use crate::allocator::domain::Domain;
use crate::allocator::vcpu::{InfoPlace, Polling};
use crate::types::{MAX_VCPUS, VcpuKey};

const _: () = assert!(MAX_VCPUS <= u8::BITS as usize, "pollers has a bit for each vCPU");

impl Monitor {
    /// Sends an event on a port of `sender`. Without a peer it goes nowhere. `EINVAL` if the port
    /// is not one to send on.
    #[inline(always)]
    pub fn event_send(&mut self, sender: DomId, port: Port) -> Result<(), Errno> {
        let domain = self.domains.get(sender).ok_or(Errno::ESRCH)?;
        match domain.events.channel(port).ok_or(Errno::EINVAL)?.binding {
            Binding::Interdomain { remote, port } => self.raise_event(remote, port),
            Binding::Ipi => self.raise_event(sender, port),
            Binding::Unbound { .. } => {}
            Binding::Closed | Binding::Virq(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Makes a port of `receiver` pending. If it is so already, that is all: whoever made it so
    /// has announced it.
    #[inline(always)]
    pub(super) fn raise_event(&mut self, receiver: DomId, port: Port) {
        let Some(domain) = self.domains.get(receiver) else { return };
        let Some(channel) = domain.events.channel(port) else { return };
        if two_level::set_pending(domain.shared_info, port) {
            let key = VcpuKey { domain: receiver, vcpu: channel.vcpu };
            self.announce(key, port);
        }
    }

    /// Tells a vCPU of a port that has become pending. Out of line, to keep the way short for
    /// events that are pending already: they are most of them when there is much to do.
    #[inline(never)]
    fn announce(&mut self, key: VcpuKey, port: Port) {
        let Some(domain) = self.domains.get(key.domain) else { return };
        let effect = two_level::announce(domain.shared_info, info(domain, key.vcpu), port);
        let polled = domain.events.pollers != 0;
        self.react(key, effect);
        if polled {
            self.wake_pollers(key.domain, port);
        }
    }

    /// Unmasks a port and delivers what it held back. For ports whose vCPU is not the caller, or
    /// that were pending meanwhile. `EINVAL` if the table has no such port.
    pub fn event_unmask(&mut self, id: DomId, port: Port) -> Result<(), Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        let channel = domain.events.channel(port).ok_or(Errno::EINVAL)?;
        if channel.binding != Binding::Closed {
            let vcpu = channel.vcpu;
            let effect = two_level::unmask(domain.shared_info, info(domain, vcpu), port);
            self.react(VcpuKey { domain: id, vcpu }, effect);
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
        let Some(domain) = self.domains.get(key.domain) else { return };
        let effect = two_level::select(info(domain, key.vcpu), u64::MAX);
        self.react(key, effect);
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

    fn react(&mut self, key: VcpuKey, effect: Effect) {
        if effect == Effect::Upcall {
            self.notify(key);
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

/// Where a vCPU's record is.
#[inline]
fn info(domain: &Domain, vcpu: VcpuId) -> Option<InfoPlace> {
    domain.vcpu(vcpu).and_then(|vcpu| vcpu.info)
}
