//! Going over to the FIFO ABI and back, and the pages that it needs. Errors are Xen's.

use abi::event::fifo::WORDS_PER_PAGE;
use abi::shared_info::TWO_LEVEL_PORTS;
use abi::{DomId, Errno, Gfn, Port};

use super::Abi;
use super::fifo::{Fifo, Queues};
use super::pending_bit::PendingBit;
use crate::allocator::Monitor;
use crate::allocator::frame_box::FrameBox;
use crate::types::VcpuKey;

impl Monitor {
    /// Notes where a vCPU's control block is: at `offset` of a frame of its domain's own RAM, which
    /// is held from now on. The first one switches the domain to the FIFO ABI; what was pending is
    /// kept until its event word is there.
    ///
    /// `ENOENT` if there is no such vCPU; `EINVAL` if the block does not fit there, or the vCPU has
    /// one; `ENOMEM` if the domain cannot pay for it.
    pub fn event_init_control(&mut self, key: VcpuKey, gfn: Gfn, offset: u32) -> Result<(), Errno> {
        let domain = self.domains.get(key.domain).ok_or(Errno::ESRCH)?;
        domain.vcpu(key.vcpu).ok_or(Errno::ENOENT)?;
        let has_one = matches!(&domain.events.abi, Abi::Fifo(fifo) if fifo.has_queues(key.vcpu));
        if has_one || !Queues::fit(offset) {
            return Err(Errno::EINVAL);
        }
        let frame = self.hold_ram(key.domain, gfn)?;
        let result = self.add_queues(key, Queues::new(frame, offset));
        result.inspect_err(|_| {
            self.frames.release(frame);
        })
    }

    fn add_queues(&mut self, key: VcpuKey, queues: Queues) -> Result<(), Errno> {
        let domain = self.domains.get_mut(key.domain).ok_or(Errno::ESRCH)?;
        if let Abi::Fifo(fifo) = &mut domain.events.abi {
            return fifo.add_queues(key.vcpu, queues);
        }
        let mut fifo = FrameBox::new(&mut self.frames, key.domain, Fifo::new())?;
        fifo.add_queues(key.vcpu, queues)?;
        let events = &mut domain.events;
        events.abi = Abi::Fifo(fifo);
        let ports = events.ports.touched(0..TWO_LEVEL_PORTS);
        for port in ports.clone() {
            let was_pending = PendingBit::two_level(events.shared_info, port).take();
            if let Some(channel) = events.ports.get_mut(port).filter(|channel| channel.is_open()) {
                channel.fifo.unheard = was_pending;
            }
        }
        ports.for_each(|port| self.redirect(key.domain, port));
        Ok(())
    }

    /// Adds a page of event words, which is held from now on. What was pending for want of a word
    /// is delivered.
    ///
    /// `EOPNOTSUPP` if the domain has the 2-level ABI, `ENOSPC` if the array has all its pages,
    /// `EINVAL` if the frame is not the domain's RAM.
    pub fn event_expand_array(&mut self, id: DomId, gfn: Gfn) -> Result<(), Errno> {
        let domain = self.domains.get(id).ok_or(Errno::ESRCH)?;
        let Abi::Fifo(fifo) = &domain.events.abi else { return Err(Errno::EOPNOTSUPP) };
        if fifo.is_full() {
            return Err(Errno::ENOSPC);
        }
        let page = self.hold_ram(id, gfn)?;
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        let Abi::Fifo(fifo) = &mut domain.events.abi else { return Err(Errno::EOPNOTSUPP) };
        // There is room: it was checked above.
        let first = fifo.add_page(page)?;
        for port in domain.events.ports.touched(first.0..first.0 + WORDS_PER_PAGE) {
            self.redirect(id, port);
            self.raise_unheard(id, port);
        }
        Ok(())
    }

    /// Makes a port pending, which has its event word now, if an event came before it had.
    fn raise_unheard(&mut self, id: DomId, port: Port) {
        let domain = self.domains.get_mut(id);
        let channel = domain.and_then(|domain| domain.events.ports.get_mut(port));
        if channel.is_some_and(|channel| core::mem::take(&mut channel.fifo.unheard)) {
            self.raise_event(id, port);
        }
    }

    /// Changes the queue that a port joins, from the next time that it joins one.
    ///
    /// `EINVAL` if the table has no such port, or for a priority that does not exist; `ENOSYS` if
    /// the domain has the 2-level ABI.
    pub fn event_set_priority(
        &mut self,
        id: DomId,
        port: Port,
        priority: u32,
    ) -> Result<(), Errno> {
        let events = &mut self.domains.get_mut(id).ok_or(Errno::ESRCH)?.events;
        let channel = events.ports.get_mut(port).ok_or(Errno::EINVAL)?;
        match events.abi {
            Abi::TwoLevel => Err(Errno::ENOSYS),
            Abi::Fifo(_) => channel.fifo.set_priority(priority),
        }
    }

    /// Goes back to the 2-level ABI, and drops the holds on all frames. No port may be open.
    pub(super) fn leave_fifo(&mut self, id: DomId) {
        let Some(domain) = self.domains.get_mut(id) else { return };
        if let Abi::Fifo(fifo) = core::mem::replace(&mut domain.events.abi, Abi::TwoLevel) {
            fifo.free(&mut self.frames).free(&mut self.frames);
        }
    }
}
