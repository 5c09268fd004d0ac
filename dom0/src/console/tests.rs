//! The backend against a guest's end of the ring, over real channels of the host's stand-in.

use std::{string::String, vec, vec::Vec};

use pv_guest_kernel::abi::console::Ring;

use super::*;

/// A guest's end of a console.
struct Guest {
    output: Sender,
    input: Receiver,
    page: SharedPage,
    channel: Channel,
}

impl Guest {
    fn attach(backend: &Backend, domid: u16) -> Guest {
        let page = SharedPage::allocate().unwrap();
        let (ours, theirs) = Channel::loopback().unwrap();
        backend.attach(DomId(domid), "guest", page.clone(), theirs, false);
        Guest {
            output: Sender::new(page.clone(), OUTPUT),
            input: Receiver::new(page.clone(), INPUT),
            page,
            channel: ours,
        }
    }

    async fn print(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = self.output.send(bytes).unwrap();
            bytes = &bytes[sent..];
            self.channel.notify();
            if sent == 0 {
                self.channel.wait().await;
            }
        }
    }
}

/// Runs a test, and then the tasks that it cancelled, as they hold channels.
fn run(test: impl Future<Output = ()> + 'static) {
    executor::run(async {
        test.await;
        executor::yield_now().await;
    });
}

async fn read(session: &mut Session) -> String {
    let mut bytes = [0; 100];
    let count = session.read(&mut bytes).await;
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn a_viewer_sees_what_was_printed_before_and_after_it_came() {
    run(async {
        let backend = Backend::new();
        let mut guest = Guest::attach(&backend, 3);
        assert!(backend.open(DomId(4)).is_none());
        guest.print(b"before").await;
        executor::yield_now().await;
        let mut session = backend.open(DomId(3)).unwrap();
        assert_eq!(read(&mut session).await, "before");
        guest.print(b"after").await;
        assert_eq!(read(&mut session).await, "after");
        let mut second = backend.open(DomId(3)).unwrap();
        assert_eq!(read(&mut second).await, "beforeafter");
    });
}

#[test]
fn a_viewer_that_keeps_up_loses_nothing() {
    run(async {
        let backend = Backend::new();
        let mut guest = Guest::attach(&backend, 3);
        let text: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let mut session = backend.open(DomId(3)).unwrap();
        let expected = text.clone();
        let viewer = executor::spawn(async move {
            let (mut all, mut bytes) = (vec![], [0; 4096]);
            while all.len() < expected.len() {
                let count = session.read(&mut bytes).await;
                all.extend_from_slice(&bytes[..count]);
            }
            assert!(all == expected);
        });
        guest.print(&text).await;
        viewer.await;
    });
}

#[test]
fn what_is_left_in_the_ring_comes_before_the_end() {
    run(async {
        let backend = Backend::new();
        let mut guest = Guest::attach(&backend, 3);
        let mut session = backend.open(DomId(3)).unwrap();
        guest.output.send(b"last words").unwrap();
        backend.detach(DomId(3));
        assert_eq!(read(&mut session).await, "last words");
        assert_eq!(read(&mut session).await, "");
        assert_eq!(session.write(b"too late"), 0);
        assert!(backend.open(DomId(3)).is_none());
    });
}

#[test]
fn a_waiting_viewer_learns_of_the_end() {
    run(async {
        let backend = Backend::new();
        let _guest = Guest::attach(&backend, 3);
        let mut session = backend.open(DomId(3)).unwrap();
        let viewer = executor::spawn(async move { read(&mut session).await });
        executor::yield_now().await;
        backend.detach(DomId(3));
        assert_eq!(viewer.await, "");
    });
}

#[test]
fn typing_reaches_the_guest_as_far_as_there_is_room() {
    run(async {
        let backend = Backend::new();
        let mut guest = Guest::attach(&backend, 3);
        let session = backend.open(DomId(3)).unwrap();
        assert_eq!(session.write(&[7; 2000]), INPUT_SIZE);
        assert_eq!(session.write(b"x"), 0);
        guest.channel.wait().await;
        let mut bytes = [0; 2000];
        assert_eq!(guest.input.receive(&mut bytes).unwrap(), INPUT_SIZE);
        assert_eq!(session.write(b"x"), 1);
    });
}

#[test]
fn a_guest_with_impossible_indices_loses_its_console_and_nobody_else_does() {
    use core::sync::atomic::Ordering;
    run(async {
        let backend = Backend::new();
        let hostile = Guest::attach(&backend, 3);
        let mut peaceful = Guest::attach(&backend, 4);
        hostile.page.store_u32(offset_of!(Ring, output_producer), 5000, Ordering::Release);
        hostile.channel.notify();
        let mut session = backend.open(DomId(3)).unwrap();
        assert_eq!(read(&mut session).await, "");
        peaceful.print(b"hello").await;
        assert_eq!(read(&mut backend.open(DomId(4)).unwrap()).await, "hello");
    });
}
