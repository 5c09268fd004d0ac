//! The TCP/IP stack (the crate `smoltcp`) and the task that drives it: it looks at the stack when
//! frames have come, when a socket was used, and when a timer is due.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Poll, Waker};
use core::time::Duration;

use abi::net::MacAddress;
use futures_util::future::{Either, select};
use smoltcp::iface::{self, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::Traffic;
use super::backlog::Backlog;
use super::configuration::{Addressing, Configuration};
use super::device::Interface;
use super::ports::Ports;
use super::rings::Rings;
use crate::condition::{self, Condition};
use crate::executor;
use crate::time;
use crate::xenbus::{Device, Error};

/// Frames that are taken before other tasks get their turn.
const BURST: usize = 64;

/// The stack, shared by its driver and the sockets.
#[derive(Debug)]
pub(super) struct Stack {
    configuration: Configuration,
    state: RefCell<Option<State>>,
    /// The driver, when it has waited.
    driver: RefCell<Option<Waker>>,
    /// A socket was used since the driver looked, and the driver was woken.
    used: Cell<bool>,
    changed: Condition,
}

/// What exists from the first connection on.
pub(super) struct State {
    pub(super) interface: iface::Interface,
    pub(super) sockets: SocketSet<'static>,
    /// By port.
    pub(super) backlogs: BTreeMap<u16, Backlog>,
    /// TCP connections that nobody holds any more, until they are closed.
    pub(super) closing: Vec<SocketHandle>,
    pub(super) ports: Ports,
    dhcp: Option<SocketHandle>,
    device: Interface,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Stack {
    pub(super) fn new(configuration: Configuration) -> Rc<Stack> {
        Rc::new(Stack {
            configuration,
            state: RefCell::new(None),
            driver: RefCell::new(None),
            used: Cell::new(false),
            changed: Condition::default(),
        })
    }

    /// Changes the stack, at which the driver looks afterwards; `None` before the first connection.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> Option<R> {
        let result = self.state.borrow_mut().as_mut().map(work);
        self.wake_driver();
        result
    }

    /// The same for what is to be tried until it is ready: only then it was a change.
    pub(super) fn poll_with<R>(&self, work: impl FnOnce(&mut State) -> Poll<R>) -> Poll<R> {
        let result = self.poll_quietly(work);
        if result.is_ready() {
            self.wake_driver();
        }
        result
    }

    /// The same for what gives the driver nothing to do, as taking a packet that has come does.
    pub(super) fn poll_quietly<R>(&self, work: impl FnOnce(&mut State) -> Poll<R>) -> Poll<R> {
        // A socket exists only after the stack.
        self.state.borrow_mut().as_mut().map_or(Poll::Pending, work)
    }

    fn wake_driver(&self) {
        if !self.used.replace(true)
            && let Some(driver) = self.driver.borrow().as_ref()
        {
            driver.wake_by_ref();
        }
    }

    /// Waits until the stack, which may have changed, gives something.
    pub(super) async fn until<T>(&self, mut check: impl FnMut(&State) -> Option<T>) -> T {
        self.changed.until(|| self.state.borrow().as_ref().and_then(&mut check)).await
    }

    /// What each queue has carried.
    pub(super) fn traffic(&self) -> Vec<Traffic> {
        let state = self.state.borrow();
        let rings = state.as_ref().and_then(|state| state.device.rings.as_ref());
        rings.map(Rings::traffic).unwrap_or_default()
    }

    /// The driver: from connection to disconnection. What the stack has to do is a task of its own,
    /// so that nothing else is looked at for each frame.
    pub(super) async fn drive(self: &Rc<Stack>, device: &Device) -> Result<(), Error> {
        let address: MacAddress = device.read(abi::net::key::MAC).await?;
        let rings = Rings::connect(device, self.configuration.queues).await?;
        self.plug_in(address, rings);
        let work = executor::spawn(self.clone().work());
        let error = match select(work, pin!(device.ended())).await {
            Either::Left((error, _)) | Either::Right((error, _)) => error,
        };
        if let Some(state) = self.state.borrow_mut().as_mut() {
            state.device.rings = None;
        }
        Err(error)
    }

    /// Lets the stack work whenever there is something to do, until the backend breaks the protocol.
    async fn work(self: Rc<Stack>) -> Error {
        loop {
            match self.receive() {
                Ok(0) => {}
                // Whoever was woken has its turn before what is to be sent is looked at: its answer
                // leaves together with the acknowledgement, and not after it.
                Ok(_) => executor::yield_now().await,
                Err(error) => return error,
            }
            match self.send() {
                Ok(delay) => self.wait(delay).await,
                Err(error) => return error,
            }
        }
    }

    fn plug_in(&self, address: MacAddress, rings: Rings) {
        let mut state = self.state.borrow_mut();
        match state.as_mut() {
            Some(state) => state.device.rings = Some(rings),
            None => *state = Some(State::new(address, rings, self.configuration.addressing)),
        }
        drop(state);
        self.changed.notify();
    }

    /// Takes what has come. Returns how many frames that were.
    fn receive(&self) -> Result<usize, Error> {
        self.state.borrow_mut().as_mut().map_or(Ok(0), State::receive)
    }

    /// Sends what is to be sent. Returns how long the stack has nothing to do by itself.
    fn send(&self) -> Result<Option<Duration>, Error> {
        self.used.set(false);
        let mut state = self.state.borrow_mut();
        let Some(state) = state.as_mut() else { return Ok(None) };
        let (delay, changed) = state.send()?;
        if changed {
            self.changed.notify();
        }
        Ok(delay)
    }

    async fn wait(&self, delay: Option<Duration>) {
        if delay.is_some_and(|delay| delay.is_zero()) {
            return executor::yield_now().await;
        }
        let work = poll_fn(|context| {
            if self.used.get() {
                return Poll::Ready(());
            }
            condition::remember(&mut self.driver.borrow_mut(), context.waker());
            let state = self.state.borrow();
            match state.as_ref().and_then(|state| state.device.rings.as_ref()) {
                Some(rings) => rings.poll_event(context),
                None => Poll::Pending,
            }
        });
        match delay {
            Some(delay) => {
                select(work, pin!(time::sleep(delay))).await;
            }
            None => work.await,
        }
    }
}

impl State {
    fn new(address: MacAddress, rings: Rings, addressing: Addressing) -> State {
        let mut device = Interface::new(rings);
        let hardware = HardwareAddress::Ethernet(EthernetAddress(address.0));
        let mut config = iface::Config::new(hardware);
        let seed = seed(address);
        config.random_seed = seed;
        let mut interface = iface::Interface::new(config, &mut device, now());
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = match addressing {
            Addressing::Dhcp => Some(sockets.add(dhcpv4::Socket::new())),
            Addressing::Static { address, gateway } => {
                configure(&mut interface, Some(address), gateway);
                None
            }
        };
        State {
            interface,
            sockets,
            backlogs: BTreeMap::new(),
            closing: Vec::new(),
            ports: Ports::new(seed),
            dhcp,
            device,
        }
    }

    /// The interface's own address, if it has one.
    pub(super) fn address(&self) -> Option<Ipv4Cidr> {
        self.interface.ip_addrs().iter().find_map(|address| match address {
            IpCidr::Ipv4(address) => Some(*address),
            IpCidr::Ipv6(_) => None,
        })
    }

    /// Takes what has come, but not more than a burst. Returns how many frames that were.
    fn receive(&mut self) -> Result<usize, Error> {
        let now = now();
        let mut count = 0;
        while count < BURST && self.receive_one(now) {
            count += 1;
        }
        self.device.rings.as_mut().map_or(Ok(()), Rings::replenish)?;
        Ok(count)
    }

    /// Sends what is to be sent. Returns how long there is nothing to do without cause, and whether
    /// somebody who waits should look.
    fn send(&mut self) -> Result<(Option<Duration>, bool), Error> {
        let now = now();
        self.reap();
        self.interface.poll_maintenance(now);
        // Each round sends a frame for each socket that has something to send.
        while let iface::PollResult::SocketStateChanged =
            self.interface.poll_egress(now, &mut self.device, &mut self.sockets)
        {}
        let changed = self.follow_dhcp();
        for backlog in self.backlogs.values_mut() {
            backlog.update(&mut self.sockets);
        }
        let more = self.settle()?;
        let delay = self.interface.poll_delay(now, &self.sockets).map(Duration::from);
        Ok((if more { Some(Duration::ZERO) } else { delay }, changed))
    }

    /// Shows the backend what was done. Says whether it has something more.
    fn settle(&mut self) -> Result<bool, Error> {
        if let Some(error) = self.device.error.take() {
            return Err(error);
        }
        let Some(rings) = &mut self.device.rings else { return Ok(false) };
        rings.flush()?;
        rings.final_check()
    }

    fn receive_one(&mut self, now: Instant) -> bool {
        let result = self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
        if result == PollIngressSingleResult::None {
            return false;
        }
        for backlog in self.backlogs.values_mut() {
            backlog.keep_listening(&mut self.sockets);
        }
        true
    }

    /// Removes connections that are closed. One that has only to wait for strays of its own goes
    /// too: memory is worth more than that.
    fn reap(&mut self) {
        let State { closing, sockets, .. } = self;
        closing.retain(|&handle| {
            let state = sockets.get::<tcp::Socket<'_>>(handle).state();
            let done = matches!(state, tcp::State::Closed | tcp::State::TimeWait);
            if done {
                sockets.remove(handle);
            }
            !done
        });
    }

    fn follow_dhcp(&mut self) -> bool {
        let Some(handle) = self.dhcp else { return false };
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => return false,
            Some(dhcpv4::Event::Configured(lease)) => {
                log::info!("DHCP: {}", lease.address);
                configure(&mut self.interface, Some(lease.address), lease.router);
            }
            Some(dhcpv4::Event::Deconfigured) => configure(&mut self.interface, None, None),
        }
        true
    }
}

fn configure(
    interface: &mut iface::Interface,
    address: Option<Ipv4Cidr>,
    gateway: Option<Ipv4Address>,
) {
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        // It has room for one.
        let _ = address.map(|address| addresses.push(address.into()));
    });
    interface.routes_mut().remove_default_ipv4_route();
    if let Some(gateway) = gateway {
        // As has the table of routes.
        let _ = interface.routes_mut().add_default_ipv4_route(gateway);
    }
}

fn now() -> Instant {
    Instant::from_micros(i64::try_from(time::now().as_micros()).unwrap_or(i64::MAX))
}

/// Two interfaces shall not begin with the same numbers, nor one after each start.
fn seed(MacAddress([a, b, c, d, e, f]): MacAddress) -> u64 {
    let clock = time::wall_clock().unwrap_or_default() + time::now();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f]).rotate_left(24) ^ clock.as_nanos() as u64
}
