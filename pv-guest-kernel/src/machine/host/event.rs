//! `event_channel_op`: what domains do with their ports.

use abi::event::{AllocUnbound, BindInterdomain, Command, PortOnly};
use abi::{DomId, Errno, Port};

use super::argument;
use super::monitor::{Monitor, State};
use super::ports::PortState;

impl Monitor {
    /// # Safety
    /// The argument must be valid for the command.
    pub(super) unsafe fn event_channel_op(
        &self,
        caller: DomId,
        command: u64,
        pointer: u64,
    ) -> Result<(), Errno> {
        match Command::from_raw(command) {
            Some(Command::AllocUnbound) => {
                // SAFETY: the caller's promise.
                let allocation = unsafe { argument::<AllocUnbound>(pointer) };
                allocation.port = self.with(|state| state.alloc_unbound(caller, allocation));
            }
            Some(Command::BindInterdomain) => {
                // SAFETY: the caller's promise.
                let binding = unsafe { argument::<BindInterdomain>(pointer) };
                binding.local_port = self.with(|state| state.bind_interdomain(caller, binding))?;
            }
            Some(Command::Send) => {
                // SAFETY: the caller's promise.
                let port = unsafe { argument::<PortOnly>(pointer) }.port;
                self.with(|state| state.send(caller, port));
                self.wake_all();
            }
            Some(Command::Close) => {
                // SAFETY: the caller's promise.
                let port = unsafe { argument::<PortOnly>(pointer) }.port;
                self.with(|state| state.close(caller, port));
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }
}

impl State {
    fn alloc_unbound(&mut self, caller: DomId, allocation: &AllocUnbound) -> Port {
        let owner = self.named(caller, allocation.dom);
        let remote = self.named(caller, allocation.remote);
        self.domain(owner).events.open_new(PortState::Unbound(remote))
    }

    fn bind_interdomain(
        &mut self,
        caller: DomId,
        binding: &BindInterdomain,
    ) -> Result<Port, Errno> {
        let remote = self.named(caller, binding.remote);
        let remote_port = binding.remote_port;
        match self.domain(remote).events.state(remote_port) {
            PortState::Unbound(meant) if self.is_meant(meant, caller) => {}
            _ => return Err(Errno::EINVAL),
        }
        let local = self.domain(caller).events.open_new(PortState::Bound(remote, remote_port));
        self.domain(remote).events.set(remote_port, PortState::Bound(caller, local));
        Ok(local)
    }

    fn send(&mut self, caller: DomId, port: Port) {
        if let PortState::Bound(remote, remote_port) = self.domain(caller).events.state(port) {
            self.domain(remote).events.announce(remote_port);
        }
    }

    fn close(&mut self, caller: DomId, port: Port) {
        if let PortState::Bound(remote, remote_port) = self.domain(caller).events.state(port) {
            self.domain(remote).events.set(remote_port, PortState::Unbound(caller));
        }
        let events = &mut self.domain(caller).events;
        events.set(port, PortState::Closed);
        events.clear_pending(port);
    }
}
