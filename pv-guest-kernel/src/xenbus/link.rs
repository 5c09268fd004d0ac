//! The ring and event channel between two connected ends.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::pin::pin;
use core::sync::atomic::Ordering;

use abi::ring::{BackRing, FrontRing, Message, RingError, SharedMemory};
use abi::{GrantRef, Port};
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{FuturesOrdered, StreamExt};

use super::{Device, Error, State};
use crate::event::Channel;
use crate::executor;
use crate::grant::{Access, Grant, Mapping};
use crate::shared::SharedPage;

impl SharedMemory for SharedPage {
    fn load(&self, offset: usize) -> u32 {
        self.load_u32(offset, Ordering::Relaxed)
    }
    fn store(&self, offset: usize, value: u32) {
        self.store_u32(offset, value, Ordering::Relaxed);
    }
}

/// What the two halves of a ring have in common.
pub trait Half {
    /// What this half sends.
    type Outgoing: Message;
    /// What it receives.
    type Incoming: Message;

    /// Writes a message.
    ///
    /// # Errors
    /// If there is no slot for it.
    fn push(&mut self, message: &Self::Outgoing) -> Result<(), RingError>;
    /// Takes a message, if there is one.
    ///
    /// # Errors
    /// If the other half breaks the rules.
    fn pop(&mut self) -> Result<Option<Self::Incoming>, RingError>;
    /// Shows what was written; returns whether the other half wants to be notified.
    fn publish(&mut self) -> bool;
    /// Asks to be notified of the next message; returns whether there is one already.
    ///
    /// # Errors
    /// If the other half breaks the rules.
    fn final_check(&mut self) -> Result<bool, RingError>;
}

macro_rules! half {
    ($ring:ident, $outgoing:ident, $incoming:ident) => {
        impl<Request: Message, Response: Message> Half for $ring<SharedPage, Request, Response> {
            type Outgoing = $outgoing;
            type Incoming = $incoming;
            fn push(&mut self, message: &$outgoing) -> Result<(), RingError> {
                self.push(message)
            }
            fn pop(&mut self) -> Result<Option<$incoming>, RingError> {
                self.pop()
            }
            fn publish(&mut self) -> bool {
                self.publish()
            }
            fn final_check(&mut self) -> Result<bool, RingError> {
                self.final_check()
            }
        }
    };
}
half!(FrontRing, Request, Response);
half!(BackRing, Response, Request);

/// A connection between the two ends of a device. Used by one task.
#[derive(Debug)]
pub struct Link<'d, R> {
    device: &'d Device,
    ring: RefCell<R>,
    channel: Channel,
    /// The frontend's, on the ring's page.
    _grant: Option<Grant>,
}

/// The frontend's side of a connection.
pub type FrontLink<'d, Request, Response> = Link<'d, FrontRing<SharedPage, Request, Response>>;
/// The backend's side of a connection.
pub type BackLink<'d, Request, Response> = Link<'d, BackRing<SharedPage, Request, Response>>;

impl<'d, Request: Message, Response: Message> FrontLink<'d, Request, Response> {
    /// Waits for the backend, offers it a ring, an event channel and the driver's `details`, and
    /// waits until it has taken them.
    ///
    /// # Errors
    /// [`Error::Gone`] if the backend closes; what the monitor or the store refuses.
    pub async fn connect(device: &'d Device, details: &[(&str, &str)]) -> Result<Self, Error> {
        device.wait_peer_return(&[State::InitWait]).await?;
        let page = SharedPage::allocate()?;
        let ring = FrontRing::new(page.clone());
        let grant = Grant::new(&page, device.peer(), Access::ReadWrite)?;
        let channel = Channel::alloc_unbound(device.peer())?;
        let (reference, port) = (grant.reference().to_string(), channel.port().to_string());
        let mut keys: Vec<(&str, &str)> = details.to_vec();
        keys.extend([("ring-ref", reference.as_str()), ("event-channel", port.as_str())]);
        device.publish(&keys, State::Initialised).await?;
        device.wait_peer(&[State::Connected]).await?;
        device.switch_state(State::Connected).await?;
        Ok(Link { device, ring: RefCell::new(ring), channel, _grant: Some(grant) })
    }
}

impl<Request: Message, Response: Message> FrontLink<'_, Request, Response> {
    /// Requests for which there is room.
    pub fn free(&self) -> u32 {
        self.ring.borrow().free()
    }
}

impl<'d, Request: Message, Response: Message> BackLink<'d, Request, Response> {
    /// Asks for the frontend's offer, takes it, and says that the device is in operation: all that
    /// a backend needs which has nothing to tell of itself.
    ///
    /// # Errors
    /// As for [`BackLink::accept`].
    pub async fn connect(device: &'d Device) -> Result<Self, Error> {
        device.switch_state(State::InitWait).await?;
        let link = Self::accept(device).await?;
        device.switch_state(State::Connected).await?;
        Ok(link)
    }

    /// Waits for the frontend's offer and takes it. The driver then publishes what the frontend
    /// must know, with the state [`State::Connected`].
    ///
    /// # Errors
    /// [`Error::Gone`] if the frontend closes; [`Error::Key`] or [`Error::Grant`] if its offer is
    /// no good.
    pub async fn accept(device: &'d Device) -> Result<Self, Error> {
        device.wait_peer(&[State::Initialised, State::Connected]).await?;
        let reference = GrantRef(device.read_peer("ring-ref").await?);
        let port = Port(device.read_peer("event-channel").await?);
        let mapping = Mapping::new(device.peer(), &[reference], Access::ReadWrite)?;
        let channel = Channel::bind_interdomain(device.peer(), port)?;
        // The ring's page keeps the mapping.
        let ring = BackRing::attach(mapping.page(0));
        Ok(Link { device, ring: RefCell::new(ring), channel, _grant: None })
    }
}

impl<Request: Message, Response: Message> BackLink<'_, Request, Response> {
    /// Works on requests as they come, on several at a time, and answers them in their order, until
    /// the frontend goes away. Work that is not done then is dropped.
    ///
    /// # Errors
    /// If the frontend goes away or breaks the ring's rules.
    pub async fn answer(&self, work: impl AsyncFn(Request) -> Response) -> Result<(), Error> {
        // The ring has so many slots, so no more than that can be in it.
        let mut working = FuturesOrdered::new();
        loop {
            while let Some(request) = self.try_receive()? {
                working.push_back(work(request));
            }
            while let Some(Some(response)) = working.next().now_or_never() {
                self.push(&response)?;
            }
            self.flush();
            if working.is_empty() {
                self.wait().await?;
                continue;
            }
            match select(pin!(self.wait()), working.next()).await {
                Either::Left((result, _)) => result?,
                Either::Right((Some(response), _)) => self.push(&response)?,
                Either::Right((None, _)) => {}
            }
        }
    }
}

impl<R: Half> Link<'_, R> {
    /// Writes a message. The other end sees it when it is [flushed](Link::flush).
    ///
    /// # Errors
    /// If there is no slot for it.
    pub fn push(&self, message: &R::Outgoing) -> Result<(), Error> {
        Ok(self.ring.borrow_mut().push(message)?)
    }

    /// Shows the other end what was pushed, and wakes it if it asked for that.
    pub fn flush(&self) {
        if self.ring.borrow_mut().publish() {
            self.channel.notify();
        }
    }

    /// Writes a message and shows it to the other end.
    ///
    /// # Errors
    /// If there is no slot for it.
    pub fn send(&self, message: &R::Outgoing) -> Result<(), Error> {
        self.push(message)?;
        self.flush();
        Ok(())
    }

    /// Takes a message, if there is one.
    ///
    /// # Errors
    /// If the other end breaks the ring's rules.
    pub fn try_receive(&self) -> Result<Option<R::Incoming>, Error> {
        Ok(self.ring.borrow_mut().pop()?)
    }

    /// Waits for a message and takes it.
    ///
    /// # Errors
    /// If the other end goes away or breaks the ring's rules.
    pub async fn receive(&self) -> Result<R::Incoming, Error> {
        loop {
            if let Some(message) = self.try_receive()? {
                return Ok(message);
            }
            self.wait().await?;
        }
    }

    /// Waits until there may be a message. If there is one already, the other tasks have their turn
    /// first: the other end may be one that never stops.
    ///
    /// # Errors
    /// If the other end goes away or breaks the ring's rules.
    pub async fn wait(&self) -> Result<(), Error> {
        if self.ring.borrow_mut().final_check()? {
            executor::yield_now().await;
            return Ok(());
        }
        match select(pin!(self.channel.wait()), pin!(self.device.ended())).await {
            Either::Left(_) => Ok(()),
            Either::Right((error, _)) => Err(error),
        }
    }
}
