//! Making and closing channels. Errors are Xen's.

use abi::event::Virq;
use abi::{DomId, Errno, Port, VcpuId};

use super::pending_bit::PendingBit;
use super::{Binding, Channel, NO_PORT, is_global};
use crate::allocator::{Monitor, Progress};

impl Monitor {
    /// Gives `owner` a port that `remote` may bind. `remote` need not exist.
    pub fn event_alloc_unbound(&mut self, owner: DomId, remote: DomId) -> Result<Port, Errno> {
        self.open_port(owner, Binding::Unbound { remote }, VcpuId(0))
    }

    /// Binds a new port of `local` to an unbound port of `remote`. The new port is pending at
    /// once: events that were sent before it was bound are lost.
    ///
    /// `ESRCH` if there is no such domain, `EINVAL` if the port is not one that `local` may bind.
    pub fn event_bind_interdomain(
        &mut self,
        local: DomId,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        let peer = self.domains.get(remote).ok_or(Errno::ESRCH)?;
        let offered = peer.events.ports.get(remote_port).ok_or(Errno::EINVAL)?;
        if peer.is_dying() || offered.binding != (Binding::Unbound { remote: local }) {
            return Err(Errno::EINVAL);
        }
        let binding = Binding::Interdomain { remote, port: remote_port };
        let port = self.open_port(local, binding, VcpuId(0))?;
        self.rebind(remote, remote_port, Binding::Interdomain { remote: local, port });
        self.redirect(remote, remote_port);
        self.redirect(local, port);
        self.raise_event(local, port);
        Ok(port)
    }

    /// Binds a new port to a virtual interrupt. `EINVAL` for a global one on another vCPU than 0,
    /// `ENOENT` if there is no such vCPU, `EEXIST` if it is bound already. As in Xen anyone may bind
    /// any: it is raised for whom it concerns only.
    pub fn event_bind_virq(&mut self, id: DomId, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        if is_global(virq) && vcpu != VcpuId(0) {
            return Err(Errno::EINVAL);
        }
        domain.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        if domain.events.virq_port(virq, vcpu).is_none_or(|port| *port != NO_PORT) {
            return Err(Errno::EEXIST);
        }
        let port = self.open_port(id, Binding::Virq(virq), vcpu)?;
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        if let Some(noted) = domain.events.virq_port(virq, vcpu) {
            *noted = port;
        }
        Ok(port)
    }

    /// Makes a port by which the domain's vCPUs signal `vcpu`. `ENOENT` if it has no such vCPU.
    pub fn event_bind_ipi(&mut self, id: DomId, vcpu: VcpuId) -> Result<Port, Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        domain.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let port = self.open_port(id, Binding::Ipi, vcpu)?;
        self.redirect(id, port);
        Ok(port)
    }

    /// Moves a port's notifications to another vCPU, from the next event on. `EINVAL` for a port
    /// that belongs to its vCPU.
    pub fn event_bind_vcpu(&mut self, id: DomId, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        domain.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let channel = domain.events.ports.get_mut(port).ok_or(Errno::EINVAL)?;
        match channel.binding {
            Binding::Unbound { .. } | Binding::Interdomain { .. } => channel.vcpu = vcpu,
            Binding::Virq(virq) if is_global(virq) => channel.vcpu = vcpu,
            Binding::Closed { .. } | Binding::Virq(_) | Binding::Ipi => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// What a port is. `EINVAL` if the table has no such port.
    pub fn event_status(&self, id: DomId, port: Port) -> Result<Channel, Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        domain.events.ports.get(port).copied().ok_or(Errno::EINVAL)
    }

    /// Closes a port. Its peer becomes unbound again: the domain may come back to it. `EINVAL` if
    /// it is closed.
    pub fn event_close(&mut self, id: DomId, port: Port) -> Result<(), Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        let channel = *domain.events.ports.get(port).ok_or(Errno::EINVAL)?;
        match channel.binding {
            Binding::Closed { .. } => return Err(Errno::EINVAL),
            Binding::Unbound { .. } | Binding::Ipi => {}
            Binding::Virq(virq) => {
                if let Some(noted) = domain.events.virq_port(virq, channel.vcpu) {
                    *noted = NO_PORT;
                }
            }
            Binding::Interdomain { remote, port } => {
                self.rebind(remote, port, Binding::Unbound { remote: id });
            }
        }
        if let Some(domain) = self.domains.get_mut(id) {
            domain.events.pending_bit(port).take();
            domain.events.ports.close(port);
        }
        Ok(())
    }

    /// Closes the last of a domain's ports, a frame of them, and gives the frame back. When none
    /// are left, the domain has the 2-level ABI again, as at its beginning. For reset and for a
    /// domain's end; repeat until done.
    pub fn close_events(&mut self, id: DomId) -> Progress {
        let Some(domain) = self.domains.get(id) else { return Progress::Done };
        let Some(last) = domain.events.ports.last_chunk() else {
            self.leave_fifo(id);
            return Progress::Done;
        };
        for port in last {
            // Those that are closed already answer EINVAL.
            let _ = self.event_close(id, port);
        }
        if let Some(domain) = self.domains.get_mut(id) {
            domain.events.ports.shrink(&mut self.frames);
        }
        Progress::More
    }

    fn open_port(&mut self, id: DomId, binding: Binding, vcpu: VcpuId) -> Result<Port, Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        if domain.is_dying() {
            return Err(Errno::EINVAL);
        }
        domain.events.open(&mut self.frames, id, binding, vcpu)
    }

    /// Changes what an open port is bound to; its vCPU stays. It leads nowhere until the other end
    /// is redirected.
    fn rebind(&mut self, id: DomId, port: Port, binding: Binding) {
        let domain = self.domains.get_mut(id);
        if let Some(channel) = domain.and_then(|domain| domain.events.ports.get_mut(port)) {
            (channel.binding, channel.target) = (binding, PendingBit::Nowhere);
        }
    }

    /// Has the channel that leads to a port, if there is one, lead to where the port's pending bit
    /// is now.
    pub(super) fn redirect(&mut self, id: DomId, port: Port) {
        let Some(domain) = self.domains.get(id) else { return };
        let target = domain.events.pending_bit(port);
        // What a port leads to is also what leads to it.
        let channel = domain.events.ports.get(port);
        let Some((peer, peer_port)) = channel.and_then(|channel| channel.leads_to(id, port)) else {
            return;
        };
        let peer = self.domains.get_mut(peer);
        if let Some(channel) = peer.and_then(|peer| peer.events.ports.get_mut(peer_port)) {
            channel.target = target;
        }
    }
}
