//! The running store: rings, channels and tasks, against the guests' own client and against
//! guests that do not play by the rules.

use core::{mem::offset_of, sync::atomic::Ordering, time::Duration};
use std::{format, string::String, vec, vec::Vec};

use abi::{
    DomId, Errno,
    xenstore::{Access, Header, MessageType, Permission, RING_SIZE, Ring},
};
use proptest::prelude::*;
use pv_guest_kernel::{event::Channel, host::Monitor, shared::SharedPage, time, xenstore::Client};
use zerocopy::IntoBytes;

use crate::store::Server;

fn connect(server: &Server, domid: u16) -> (SharedPage, Channel) {
    let page = SharedPage::allocate().unwrap();
    // Indices may begin anywhere.
    let start = u32::MAX - 100;
    for index in [
        offset_of!(Ring, request_consumer),
        offset_of!(Ring, request_producer),
        offset_of!(Ring, response_consumer),
        offset_of!(Ring, response_producer),
    ] {
        page.store_u32(index, start, Ordering::Relaxed);
    }
    let (ours, theirs) = Channel::loopback().unwrap();
    server.introduce(DomId(domid), page.clone(), theirs);
    (page, ours)
}

fn client(server: &Server, domid: u16) -> Client {
    let (page, channel) = connect(server, domid);
    Client::new(page, channel)
}

/// A guest's directory, as a toolstack makes it.
async fn home(dom0: &Client, domid: u16) {
    let path = format!("/local/domain/{domid}");
    dom0.mkdir(&path).await.unwrap();
    let own = Permission { access: Access::None, domain: DomId(domid) };
    dom0.set_permissions(&path, &[own]).await.unwrap();
}

#[test]
fn clients_use_the_store_over_their_rings() {
    Monitor::run_alone(|| async {
        let server = Server::new();
        let dom0 = client(&server, 0);
        let guest = client(&server, 3);
        home(&dom0, 3).await;
        assert_eq!(guest.read("device").await, Err(Errno::ENOENT));
        assert_eq!(guest.read("/local").await, Err(Errno::EACCES));

        let watch = dom0.watch("/local/domain/3/device").await.unwrap();
        assert_eq!(watch.next().await, "/local/domain/3/device");
        guest.write("device/vbd/0/state", "3").await.unwrap();
        assert_eq!(watch.next().await, "/local/domain/3/device/vbd/0/state");

        // More than a ring holds, in both directions.
        let long = "x".repeat(2000);
        guest.write("long", &long).await.unwrap();
        assert_eq!(guest.read("long").await.unwrap(), long);
        for n in 0..300 {
            dom0.write(&format!("/many/name-number-{n}"), "").await.unwrap();
        }
        assert_eq!(dom0.directory("/many").await.unwrap().len(), 300);

        guest
            .transaction(async |view| {
                view.write("a", "1").await?;
                assert_eq!(guest.read("a").await, Err(Errno::ENOENT));
                view.write("b", "2").await
            })
            .await
            .unwrap();
        assert_eq!(dom0.read("/local/domain/3/b").await.unwrap(), "2");
    });
}

#[test]
fn a_released_domain_is_gone() {
    Monitor::run_alone(|| async {
        let server = Server::new();
        let dom0 = client(&server, 0);
        let guest = client(&server, 3);
        home(&dom0, 3).await;
        guest.write("x", "").await.unwrap();
        let watch = dom0.watch("@releaseDomain").await.unwrap();
        watch.next().await;
        assert_eq!(server.release(DomId(3)), Ok(()));
        assert_eq!(watch.next().await, "@releaseDomain");
        assert!(!server.is_introduced(DomId(3)) && server.is_introduced(DomId(0)));
        assert_eq!(server.release(DomId(3)), Err(Errno::ENOENT));
        assert_eq!(dom0.read("/local/domain/3/x").await, Err(Errno::ENOENT));
        let next = client(&server, 3);
        assert_eq!(next.read("x").await, Err(Errno::EACCES));
    });
}

/// Bytes into a guest's ring, as far as there is room, without any regard to sense.
fn put(page: &SharedPage, bytes: &[u8]) {
    let producer = page.load_u32(offset_of!(Ring, request_producer), Ordering::Relaxed);
    for (index, byte) in bytes.iter().enumerate() {
        let place = producer.wrapping_add(index as u32) as usize % RING_SIZE;
        page.store_u8(place, *byte, Ordering::Relaxed);
    }
    let producer = producer.wrapping_add(bytes.len() as u32);
    page.store_u32(offset_of!(Ring, request_producer), producer, Ordering::Release);
}

fn error(page: &SharedPage) -> u32 {
    page.load_u32(offset_of!(Ring, error), Ordering::Acquire)
}

fn request(kind: MessageType, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().try_into().unwrap();
    let header = Header { kind: kind.raw(), request: 9, transaction: 0, length };
    [header.as_bytes(), payload].concat()
}

async fn settle() {
    time::sleep(Duration::from_millis(1)).await;
}

#[test]
fn a_ring_with_impossible_indices_is_closed_and_the_others_live_on() {
    Monitor::run_alone(|| async {
        let server = Server::new();
        let dom0 = client(&server, 0);
        let (page, channel) = connect(&server, 3);
        page.store_u32(offset_of!(Ring, request_producer), 5000, Ordering::Release);
        page.store_u32(offset_of!(Ring, request_consumer), 5000, Ordering::Release);
        let (blocked, its_channel) = connect(&server, 4);
        blocked.store_u32(offset_of!(Ring, response_consumer), 77, Ordering::Release);
        put(&blocked, &request(MessageType::Read, b"x\0"));
        channel.notify();
        its_channel.notify();
        settle().await;
        assert_eq!([error(&page), error(&blocked)], [2, 2]);
        assert_eq!(dom0.write("/x", "").await, Ok(()));
        assert_eq!(server.release(DomId(3)), Ok(()));
    });
}

#[test]
fn a_message_that_is_too_long_closes_the_ring() {
    Monitor::run_alone(|| async {
        let server = Server::new();
        let (page, channel) = connect(&server, 3);
        let header = Header { kind: 2, request: 0, transaction: 0, length: 4097 };
        put(&page, header.as_bytes());
        channel.notify();
        settle().await;
        assert_eq!(error(&page), 3);
    });
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    Monitor::run_alone(|| async {
        let server = Server::new();
        let (page, channel) = connect(&server, 3);
        let produced = || page.load_u32(offset_of!(Ring, response_producer), Ordering::Acquire);
        let before = produced();
        for byte in request(MessageType::GetDomainPath, b"7\0") {
            assert_eq!(produced(), before);
            put(&page, &[byte]);
            channel.notify();
            settle().await;
        }
        let expected = 16 + "/local/domain/7\0".len() as u32;
        assert_eq!((produced().wrapping_sub(before), error(&page)), (expected, 0));
    });
}

#[test]
fn a_guest_that_does_not_read_holds_up_only_itself() {
    Monitor::run_alone(|| async {
        let server = Server::new();
        let dom0 = client(&server, 0);
        let (page, channel) = connect(&server, 3);
        let producer = offset_of!(Ring, response_producer);
        let before = page.load_u32(producer, Ordering::Relaxed);
        put(&page, &request(MessageType::Watch, b"/\0t\0"));
        let own = Permission { access: Access::Read, domain: DomId(0) };
        dom0.set_permissions("/", &[own]).await.unwrap();
        for n in 0..100 {
            put(&page, &request(MessageType::GetDomainPath, b"7\0"));
            channel.notify();
            dom0.write(&format!("/shared-{n}"), "").await.unwrap();
        }
        let full = page.load_u32(producer, Ordering::Relaxed);
        assert_eq!(full.wrapping_sub(before), RING_SIZE as u32);
        // It comes back to its senses.
        let read = page.load_u32(producer, Ordering::Relaxed);
        page.store_u32(offset_of!(Ring, response_consumer), read, Ordering::Release);
        channel.notify();
        settle().await;
        assert_ne!(page.load_u32(producer, Ordering::Relaxed), full);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a guest puts into its page, the store answers or gives up on it, and goes on.
    #[test]
    fn noise_in_the_ring_does_no_harm(
        noise in proptest::collection::vec(
            (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200), 0usize..16), 1..20,
        ),
    ) {
        Monitor::run_alone(|| async move {
            let server = Server::new();
            let dom0 = client(&server, 0);
            let (page, channel) = connect(&server, 3);
            for (number, bytes, action) in noise {
                match action {
                    0 => page.store_u32(2048 + (number as usize % 7) * 4, number, Ordering::Release),
                    1..8 => put(&page, &request(MessageType::Write, &bytes)),
                    _ => put(&page, &bytes),
                }
                channel.notify();
                dom0.write("/alive", "yes").await.unwrap();
            }
            let names: Vec<String> = dom0.directory("/").await.unwrap();
            assert_eq!(names, vec!["alive"]);
        });
    }
}
