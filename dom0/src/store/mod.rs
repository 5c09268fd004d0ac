//! The store: the small tree of names and values by which domains find their devices and each
//! other, served over Xen's wire protocol (docs/misc/xenstore.txt, public/io/xs_wire.h).
//!
//! * `path`, `permissions`, `quota`: what nodes are called, who may use them, how much.
//! * `tree`: the nodes, in versions that share what is equal; `transaction`: work on a version.
//! * `watch`: who is told of changes.
//! * `message`, `dispatch`: the protocol, from bytes to bytes.
//! * `connection`: the protocol over a ring; [`Server`]: one task for each ring.
//!
//! Nothing that a client does stops the store from serving the others: requests and answers are
//! bounded, what a client does not read waits in bounded queues, and a ring that makes no sense is
//! closed. dom0 is a client like the others, except that it may do everything.

mod connection;
mod dispatch;
mod message;
mod path;
mod permissions;
mod quota;
#[cfg(test)]
mod tests;
mod transaction;
mod tree;
mod watch;

use alloc::{collections::BTreeMap, rc::Rc};
use core::cell::RefCell;

use abi::{DomId, Errno};
use embassy_futures::select::select;
use pv_guest_kernel::{
    event::Channel,
    executor::{self, Task},
    shared::SharedPage,
};

use self::{
    connection::{Connection, Progress, Violation},
    dispatch::Store,
    quota::Quotas,
    watch::Special,
};
use pv_guest_kernel::condition::Condition;

/// The running store. Clones are the same store; it lives as long as it has connections.
#[derive(Debug, Clone)]
pub struct Server(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    store: Store,
    tasks: BTreeMap<DomId, Serving>,
}

/// The task that serves a connection: dropping it ends the connection.
#[derive(Debug)]
struct Serving {
    _task: Task<()>,
    /// Notified when an event comes up for this client.
    events: Rc<Condition>,
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}

impl Server {
    /// An empty store without connections.
    pub fn new() -> Server {
        let store = Store::new(Quotas::default());
        Server(Rc::new(RefCell::new(State { store, tasks: BTreeMap::new() })))
    }

    /// Serves a domain on this ring page; fires `@introduceDomain`. dom0's own connection begins
    /// like this too. A connection that the domain had before is dropped.
    pub fn introduce(&self, domid: DomId, page: SharedPage, channel: Channel) {
        let connection = Connection::new(domid, page);
        let events = Rc::new(Condition::default());
        let task = executor::spawn(serve(self.clone(), domid, connection, channel, events.clone()));
        self.with(|state| {
            state.store.introduce(domid);
            state.tasks.insert(domid, Serving { _task: task, events });
        });
    }

    /// Ends a domain's connection, removes the nodes that it owned, and fires `@releaseDomain`.
    /// The page and the channel are dropped when the executor runs next. `ENOENT`: it has none.
    pub fn release(&self, domid: DomId) -> Result<(), Errno> {
        self.with(|state| state.store.release(domid))
    }

    /// Whether a domain has a connection.
    pub fn is_introduced(&self, domid: DomId) -> bool {
        self.0.borrow().store.is_introduced(domid)
    }

    /// Fires `@releaseDomain` for a domain that has shut down but keeps its connection.
    pub fn announce_shutdown(&self) {
        self.with(|state| state.store.announce(Special::ReleaseDomain));
    }

    /// Does something with the state, then drops the tasks of clients that are gone and wakes
    /// those of clients that have events to read.
    fn with<R>(&self, access: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.0.borrow_mut();
        let result = access(&mut state);
        let State { store, tasks } = &mut *state;
        tasks.retain(|domid, _| store.is_introduced(*domid));
        for domid in store.clients_with_events() {
            if let Some(serving) = tasks.get(&domid) {
                serving.events.notify();
            }
        }
        result
    }

    fn has_event(&self, domid: DomId) -> bool {
        self.0.borrow().store.has_event(domid)
    }
}

/// Serves one connection until it is released or violates the protocol.
async fn serve(
    server: Server,
    domid: DomId,
    mut connection: Connection,
    channel: Channel,
    events: Rc<Condition>,
) {
    loop {
        match server.with(|state| connection.advance(&mut state.store)) {
            Ok(Progress::Moved) => {
                channel.notify();
                // The others have their turn before this client's next request.
                executor::yield_now().await;
            }
            Ok(Progress::Blocked) => channel.wait().await,
            Ok(Progress::Idle) => {
                let event = events.until(|| server.has_event(domid).then_some(()));
                select(channel.wait(), event).await;
            }
            Err(violation) => return close(&server, domid, &connection, &channel, violation),
        }
    }
}

fn close(
    server: &Server,
    domid: DomId,
    connection: &Connection,
    channel: &Channel,
    violation: Violation,
) {
    log::warn!("store: connection of {domid} closed: {violation}");
    server.with(|state| state.store.reset(domid));
    connection.give_up(violation);
    channel.notify();
}
