//! The far end of every domain's console (public/io/console.h): keeps the last of what a domain
//! printed, streams it to whoever looks, and feeds it what is typed.
//!
//! The ring pushes back: a guest that prints faster than dom0 has time to look waits. What is
//! kept is bounded, so a viewer that does not read loses the oldest output, never the newest.

mod history;
#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, rc::Rc, string::String};
use core::{cell::RefCell, mem::offset_of};

use abi::{
    DomId,
    console::{INPUT_SIZE, OUTPUT_SIZE, Ring},
};
use pv_guest_kernel::{
    condition::Condition,
    event::Channel,
    executor::{self, Task},
    hypercall,
    shared::SharedPage,
};

use self::history::History;
use crate::byte_ring::{BadIndex, Layout, Receiver, Sender};

const OUTPUT: Layout = Layout {
    data: offset_of!(Ring, output),
    size: OUTPUT_SIZE,
    producer: offset_of!(Ring, output_producer),
    consumer: offset_of!(Ring, output_consumer),
};
const INPUT: Layout = Layout {
    data: offset_of!(Ring, input),
    size: INPUT_SIZE,
    producer: offset_of!(Ring, input_producer),
    consumer: offset_of!(Ring, input_consumer),
};

/// The consoles of all domains. Clones are the same backend.
#[derive(Debug, Clone, Default)]
pub struct Backend(Rc<RefCell<BTreeMap<DomId, Attached>>>);

/// A console and the task that drains it, which ends when dropped.
#[derive(Debug)]
struct Attached {
    console: Rc<Console>,
    _task: Task<()>,
}

impl Backend {
    /// A backend without consoles.
    pub fn new() -> Backend {
        Backend::default()
    }

    /// Serves a domain's console; `name` is the domain's, for log lines, `has_uart` says whether it
    /// uses a UART beside the ring. A console that a domain of this number had before ends.
    pub fn attach(
        &self,
        domid: DomId,
        name: &str,
        page: SharedPage,
        channel: Channel,
        has_uart: bool,
    ) {
        self.detach(domid);
        let ring = Ends {
            uart_of: has_uart.then_some(domid),
            output: Receiver::new(page.clone(), OUTPUT),
            input: Sender::new(page, INPUT),
            channel: Rc::new(channel),
        };
        let console = Rc::new(Console::new(name, ring));
        let task = executor::spawn(drain(console.clone()));
        self.0.borrow_mut().insert(domid, Attached { console, _task: task });
    }

    /// Ends a domain's console after taking what the domain still had to say. Viewers read what
    /// is kept, then its end. The page is dropped here, the channel when the executor runs next.
    pub fn detach(&self, domid: DomId) {
        let attached = self.0.borrow_mut().remove(&domid);
        if let Some(Attached { console, .. }) = attached {
            // A dead domain's ring holds no more than this.
            console.take_output();
            console.end();
        }
    }

    /// Looks at a domain's console, from the oldest byte that is kept.
    pub fn open(&self, domid: DomId) -> Option<Session> {
        let console = self.0.borrow().get(&domid)?.console.clone();
        Some(Session { console, position: 0 })
    }
}

/// Somebody who looks at a console and may type.
#[derive(Debug)]
pub struct Session {
    console: Rc<Console>,
    position: u64,
}

impl Session {
    /// Waits for output and copies as much as there is and fits; returns how many bytes. Zero
    /// means that the console has ended (or that `bytes` is empty).
    pub async fn read(&mut self, bytes: &mut [u8]) -> usize {
        let Session { console, position } = self;
        console.changed.until(|| console.read_from(position, bytes)).await
    }

    /// Types; returns how many of the bytes the guest's ring took. The rest is lost unless the
    /// caller tries again: a guest that does not read must not hold up the one who types.
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.console.transfer(|ring| ring.input.send(bytes))
    }
}

#[derive(Debug)]
struct Console {
    name: String,
    state: RefCell<State>,
    /// Notified when there is output or the end.
    changed: Condition,
}

#[derive(Debug)]
struct State {
    history: History,
    /// `None`: the console has ended.
    ring: Option<Ends>,
}

/// Our ends of the ring and its channel.
#[derive(Debug)]
struct Ends {
    /// The domain, if its UART is to hear of what was moved, too.
    uart_of: Option<DomId>,
    output: Receiver,
    input: Sender,
    channel: Rc<Channel>,
}

impl Ends {
    /// Tells the guest that something was moved.
    fn notify(&self) {
        self.channel.notify();
        if let Some(domain) = self.uart_of
            && let Err(error) = hypercall::domctl::uart_moved(domain)
        {
            log::debug!("the UART of {domain} was not told: {error}");
        }
    }
}

/// Takes what the guest prints until the console ends.
async fn drain(console: Rc<Console>) {
    while let Some(channel) = console.channel() {
        if console.take_output() == 0 {
            channel.wait().await;
        } else {
            // Viewers and other consoles have their turn before this guest's next bytes.
            executor::yield_now().await;
        }
    }
}

impl Console {
    fn new(name: &str, ring: Ends) -> Console {
        let state = RefCell::new(State { history: History::default(), ring: Some(ring) });
        Console { name: name.into(), state, changed: Condition::default() }
    }

    fn channel(&self) -> Option<Rc<Channel>> {
        Some(self.state.borrow().ring.as_ref()?.channel.clone())
    }

    /// Takes what is in the ring, at most its size; returns how many bytes.
    fn take_output(&self) -> usize {
        let mut bytes = [0; OUTPUT_SIZE];
        let count = self.transfer(|ring| ring.output.receive(&mut bytes));
        if count > 0 {
            self.state.borrow_mut().history.append(bytes.get(..count).unwrap_or_default());
            self.changed.notify();
        }
        count
    }

    /// Moves bytes, and tells the guest. Ends a console whose ring makes no sense.
    fn transfer(&self, transfer: impl FnOnce(&mut Ends) -> Result<usize, BadIndex>) -> usize {
        let result = match &mut self.state.borrow_mut().ring {
            None => return 0,
            Some(ring) => transfer(ring).inspect(|&count| {
                if count > 0 {
                    ring.notify();
                }
            }),
        };
        result.unwrap_or_else(|error| {
            log::warn!("console of {} closed: {error}", self.name);
            self.end();
            0
        })
    }

    /// Copies output from `position` on, moving it; `None`: there is none yet.
    fn read_from(&self, position: &mut u64, bytes: &mut [u8]) -> Option<usize> {
        let state = self.state.borrow();
        let count = state.history.read(position, bytes);
        (count > 0 || state.ring.is_none() || bytes.is_empty()).then_some(count)
    }

    fn end(&self) {
        self.state.borrow_mut().ring = None;
        self.changed.notify();
    }
}
