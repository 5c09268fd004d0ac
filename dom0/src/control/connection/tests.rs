//! Connections over a device that keeps what it is sent.

use std::cell::{Cell, RefCell};

use pv_guest_kernel::executor;

use super::super::ports::Device;
use super::*;

#[derive(Default)]
struct Loose {
    sent: RefCell<Vec<u8>>,
    /// Bytes for which there is room.
    room: Cell<usize>,
    /// Portions that may still be brought.
    credit: Cell<usize>,
}

impl Device for Loose {
    fn send(&self, _: usize, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.get());
        self.room.set(self.room.get() - count);
        self.sent.borrow_mut().extend(&bytes[..count]);
        count
    }

    fn refill(&self, _: usize, count: usize) {
        self.credit.set(self.credit.get() + count);
    }
}

fn port(room: usize) -> (Rc<Loose>, Rc<Port>) {
    let device = Rc::new(Loose::default());
    device.room.set(room);
    let port = Rc::new(Port::new(1, device.clone()));
    port.set_connected(true);
    (device, port)
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    [&Header::new(kind, payload).to_bytes(), payload].concat()
}

#[test]
fn a_command_comes_in_any_portions() {
    executor::run(async {
        let (device, port) = port(1000);
        let mut connection = Connection::accept(&port).await;
        let bytes = [frame(Kind::Input, b"late"), frame(Kind::Run, b"xl\0list\0")].concat();
        for byte in &bytes {
            port.receive(Box::new([*byte]));
        }
        assert_eq!(connection.next_command().await.unwrap(), ["xl", "list", ""]);
        assert_eq!(device.credit.get(), bytes.len());
        connection.put_done(2, "no");
        connection.flush().await.unwrap();
        let expected = [frame(Kind::Hello, &[VERSION]), frame(Kind::Done, b"\x02no")].concat();
        assert_eq!(*device.sent.borrow(), expected);
    });
}

#[test]
fn what_does_not_fit_is_sent_later() {
    executor::run(async {
        let (device, port) = port(0);
        let mut connection = Connection::accept(&port).await;
        let text = std::vec![7; PAYLOAD_MAX + 10];
        connection.put(Kind::Output, &text);
        let sending = executor::spawn(async move { connection.flush().await });
        let whole = frame(Kind::Hello, &[VERSION]).len() + text.len() + 2 * Header::SIZE;
        for _ in 0..whole {
            executor::yield_now().await;
            device.room.set(1);
            port.has_room();
        }
        assert_eq!(sending.await, Ok(()));
        assert_eq!(device.sent.borrow().len(), whole);
    });
}

#[test]
fn what_was_meant_for_another_is_not_heard() {
    executor::run(async {
        let (device, port) = port(1000);
        let mut first = Connection::accept(&port).await;
        port.receive(frame(Kind::Run, b"xl").into());
        port.set_connected(false);
        assert_eq!(first.next_command().await, Err(Gone));
        port.set_connected(true);
        port.set_connected(true);
        let mut second = Connection::accept(&port).await;
        assert_eq!(device.credit.get(), 1);
        assert_eq!(first.flush().await, Err(Gone));
        port.receive(frame(Kind::Run, b"echo").into());
        assert_eq!(second.next_command().await.unwrap(), ["echo"]);
    });
}

#[test]
fn nonsense_ends_it() {
    executor::run(async {
        let (_, port) = port(1000);
        let mut connection = Connection::accept(&port).await;
        port.receive(Box::new(*b"hello\n"));
        assert_eq!(connection.next_command().await, Err(Gone));
    });
}
