//! The usual frontend: tasks ask, and each request has one answer.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::pin;

use abi::DomId;
use abi::ring::Message;
use futures_channel::oneshot;
use futures_util::future::{Either, select};

use super::{Device, Error, FrontLink, run_frontend, start_driver};
use crate::condition::Condition;
use crate::grant::Grant;
use crate::xenstore::Client;

/// A frontend that any number of tasks can ask at a time. The backend answers in the order of the
/// requests, as [`BackLink::answer`](super::BackLink::answer) does. While it is away requests wait,
/// and those that it did not answer are sent again, in their order, once it is back. So a backend
/// may see a request that its predecessor has worked on.
///
/// Dropping it closes the device.
#[derive(Debug)]
pub struct Caller<Request, Response>(Rc<State<Request, Response>>);

/// What the tasks and the driver share.
#[derive(Debug)]
struct State<Request, Response> {
    /// dom0, until there is a connection.
    backend: Cell<DomId>,
    calls: RefCell<Calls<Request, Response>>,
    /// Notified when there is something for the driver to do.
    changed: Condition,
}

#[derive(Debug)]
struct Calls<Request, Response> {
    waiting: VecDeque<Call<Request, Response>>,
    /// On the ring, in the order in which they will be answered.
    asked: VecDeque<Call<Request, Response>>,
    /// Told of the first connection.
    connected: Option<oneshot::Sender<()>>,
    /// Nobody will ask for more.
    finished: bool,
    /// Nobody will answer any more.
    closed: bool,
}

#[derive(Debug)]
struct Call<Request, Response> {
    request: Request,
    /// Pages that the request names: they stay the backend's until it has answered, also if nobody
    /// waits for that any more.
    lent: Vec<Grant>,
    answer: oneshot::Sender<(Response, Vec<Grant>)>,
}

impl<Request, Response> Caller<Request, Response>
where
    Request: Message + 'static,
    Response: Message + 'static,
{
    /// Connects the frontend in a directory such as `device/clock/0`.
    ///
    /// # Errors
    /// If the device cannot be connected.
    pub async fn connect(store: &Client, path: &str) -> Result<Self, Error> {
        let (connected, first_connection) = oneshot::channel();
        let state = Rc::new(State::new(connected));
        let (store, path, driven) = (store.clone(), path.to_string(), state.clone());
        let driver = async move {
            let result = run_frontend(&store, &path, async |device| driven.drive(device).await);
            let result = result.await;
            driven.calls.borrow_mut().close();
            result
        };
        start_driver(driver, first_connection).await?;
        Ok(Caller(state))
    }

    /// The backend's domain: whom pages are to be granted to.
    pub fn backend(&self) -> DomId {
        self.0.backend.get()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Removed`] if the device is gone for good.
    pub async fn call(&self, request: Request) -> Result<Response, Error> {
        let (response, _) = self.lend(request, Vec::new()).await?;
        Ok(response)
    }

    /// Asks by a request that names granted pages, and gives them back with the answer.
    ///
    /// # Errors
    /// [`Error::Removed`] if the device is gone for good.
    pub async fn lend(
        &self,
        request: Request,
        lent: Vec<Grant>,
    ) -> Result<(Response, Vec<Grant>), Error> {
        let (answer, answered) = oneshot::channel();
        self.0.calls.borrow_mut().add(Call { request, lent, answer });
        self.0.changed.notify();
        answered.await.map_err(|_| Error::Removed)
    }
}

impl<Request, Response> Drop for Caller<Request, Response> {
    fn drop(&mut self) {
        self.0.calls.borrow_mut().finished = true;
        self.0.changed.notify();
    }
}

impl<Request: Message, Response: Message> State<Request, Response> {
    fn new(connected: oneshot::Sender<()>) -> Self {
        let calls = Calls {
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            connected: Some(connected),
            finished: false,
            closed: false,
        };
        State {
            backend: Cell::new(DomId::DOM0),
            calls: RefCell::new(calls),
            changed: Condition::default(),
        }
    }

    /// The driver: from connection to disconnection.
    async fn drive(&self, device: &Device) -> Result<(), Error> {
        let link = FrontLink::<Request, Response>::connect(device, &[]).await?;
        self.backend.set(device.peer());
        self.calls.borrow_mut().begin();
        loop {
            while let Some(response) = link.try_receive()? {
                self.calls.borrow_mut().answer(response);
            }
            while link.free() > 0 && self.calls.borrow_mut().ask(&link)? {}
            link.flush();
            if self.calls.borrow().is_finished() {
                return Ok(());
            }
            let room = link.free() > 0;
            let more = self.changed.until(|| {
                let calls = self.calls.borrow();
                (calls.is_finished() || room && !calls.waiting.is_empty()).then_some(())
            });
            if let Either::Left((result, _)) = select(pin!(link.wait()), pin!(more)).await {
                result?;
            }
        }
    }
}

impl<Request: Message, Response: Message> Calls<Request, Response> {
    /// If nobody will answer, dropping the call tells who asked.
    fn add(&mut self, call: Call<Request, Response>) {
        if !self.closed {
            self.waiting.push_back(call);
        }
    }

    /// There is a new connection: what was not answered over the last one is asked again.
    fn begin(&mut self) {
        self.asked.append(&mut self.waiting);
        core::mem::swap(&mut self.asked, &mut self.waiting);
        if let Some(connected) = self.connected.take() {
            // Whoever wanted to connect may have given up.
            let _ = connected.send(());
        }
    }

    /// Puts a request on the ring, which must have room. Says whether there was one.
    fn ask(&mut self, link: &FrontLink<'_, Request, Response>) -> Result<bool, Error> {
        let Some(call) = self.waiting.pop_front() else { return Ok(false) };
        link.push(&call.request)?;
        self.asked.push_back(call);
        Ok(true)
    }

    /// The ring lets through no more answers than there were requests.
    fn answer(&mut self, response: Response) {
        if let Some(call) = self.asked.pop_front() {
            // Nobody may be waiting any more.
            let _ = call.answer.send((response, call.lent));
        }
    }

    fn is_finished(&self) -> bool {
        self.finished && self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Nobody will answer: tells all who wait.
    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.asked.clear();
    }
}
