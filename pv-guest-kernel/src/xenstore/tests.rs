//! The client against a store that speaks the protocol over a real ring.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use abi::xenstore::{Access, MessageType, Permission};
use abi::{DomId, Errno};
use futures_util::future::{FutureExt, join_all, join3};

use super::Client;
use super::fake::FakeStore;
use crate::event::Channel;
use crate::executor;
use crate::host::Monitor;
use crate::shared::SharedPage;

fn with_store(test: impl AsyncFnOnce(FakeStore, Client) + Send + 'static) {
    Monitor::run_alone(|| async move {
        let store = FakeStore::default();
        let client = store.connect(5);
        test(store, client).await;
    });
}

#[test]
fn keys_are_written_read_listed_and_removed() {
    with_store(async |store, client| {
        client.write("data/a", "1").await.unwrap();
        client.write("data/b", "two").await.unwrap();
        assert_eq!(store.get("/local/domain/5/data/a").as_deref(), Some("1"));
        assert_eq!(client.read("data/b").await.as_deref(), Ok("two"));
        assert_eq!(client.read_as::<u32>("data/a").await, Ok(1));
        assert_eq!(client.read_as::<u32>("data/b").await, Err(Errno::EINVAL));
        assert_eq!(client.directory("data").await.unwrap(), ["a", "b"]);
        client.remove("data").await.unwrap();
        assert_eq!(client.read("data/a").await, Err(Errno::ENOENT));
        assert_eq!(client.domain_path(DomId(7)).await.as_deref(), Ok("/local/domain/7"));
    });
}

#[test]
fn permissions_keep_their_order() {
    with_store(async |_, client| {
        let permissions = [
            Permission { access: Access::None, domain: DomId(0) },
            Permission { access: Access::Read, domain: DomId(5) },
        ];
        client.set_permissions("data", &permissions).await.unwrap();
        assert_eq!(client.get_permissions("data").await.unwrap(), permissions);
    });
}

#[test]
fn values_longer_than_the_ring_pass() {
    with_store(async |_, client| {
        let long = "x".repeat(3000);
        client.write("long", &long).await.unwrap();
        assert_eq!(client.read("long").await, Ok(long));
        let too_long = "x".repeat(5000);
        assert_eq!(client.write("long", &too_long).await, Err(Errno::E2BIG));
    });
}

#[test]
fn a_directory_longer_than_a_message_comes_in_parts() {
    with_store(async |_, client| {
        let names: Vec<String> =
            (0..300).map(|number| format!("a-rather-long-name-{number:03}")).collect();
        for name in &names {
            client.write(&format!("many/{name}"), "").await.unwrap();
        }
        assert_eq!(client.directory("many").await.unwrap(), names);
    });
}

#[test]
fn many_tasks_share_the_connection() {
    with_store(async |store, client| {
        let tasks = (0..50).map(|number| {
            let client = client.clone();
            async move {
                let (key, value) = (format!("k{number}"), "v".repeat(number * 7));
                client.write(&key, &value).await.unwrap();
                assert_eq!(client.read(&key).await, Ok(value));
            }
        });
        join_all(tasks).await;
        assert_eq!(store.count(MessageType::Read), 50);
    });
}

#[test]
fn a_request_that_is_given_up_does_not_disturb_others() {
    with_store(async |_, client| {
        client.write("a", "1").await.unwrap();
        assert_eq!(client.read("b").now_or_never(), None);
        assert_eq!(client.read("a").await.as_deref(), Ok("1"));
        assert!(client.session.borrow().is_idle());
    });
}

#[test]
fn a_watch_fires_at_once_and_then_for_each_path_once() {
    with_store(async |store, client| {
        let watch = client.watch("dir").await.unwrap();
        assert_eq!(watch.next().await, "dir");
        for _ in 0..3 {
            client.write("dir/x", "1").await.unwrap();
        }
        client.write("dir/y", "1").await.unwrap();
        client.write("elsewhere", "1").await.unwrap();
        assert_eq!(watch.next().await, "dir/x");
        assert_eq!(watch.next().await, "dir/y");
        assert_eq!(watch.next().now_or_never(), None);
        drop(watch);
        client.read("dir/x").await.unwrap();
        assert_eq!(store.count(MessageType::Unwatch), 1);
        client.write("dir/x", "2").await.unwrap();
    });
}

#[test]
fn too_many_changes_become_one() {
    with_store(async |_, client| {
        let watch = client.watch("dir").await.unwrap();
        watch.next().await;
        for number in 0..64 {
            client.write(&format!("dir/{number}"), "").await.unwrap();
        }
        client.write("dir/one-more", "").await.unwrap();
        assert_eq!(watch.next().await, "dir");
        assert_eq!(watch.next().now_or_never(), None);
    });
}

#[test]
fn a_transaction_runs_again_until_nobody_interferes() {
    with_store(async |store, client| {
        store.interfere(3);
        let runs = Rc::new(std::cell::Cell::new(0));
        let value = client.transaction(async |t| {
            runs.set(runs.get() + 1);
            t.write("a", "1").await?;
            t.read("a").await
        });
        assert_eq!((value.await.as_deref(), runs.get()), (Ok("1"), 4));
        store.interfere(u32::MAX);
        let hopeless = client.transaction(async |t| t.write("a", "1").await).await;
        assert_eq!(hopeless, Err(Errno::EAGAIN));
    });
}

#[test]
fn a_transaction_that_fails_or_is_dropped_is_ended() {
    with_store(async |store, client| {
        let failed: Result<(), _> = client.transaction(async |_| Err(Errno::EROFS)).await;
        assert_eq!(failed, Err(Errno::EROFS));
        {
            let mut dropped = pin!(client.transaction(async |_| {
                crate::time::sleep(Duration::from_secs(1000)).await;
                Ok(())
            }));
            while store.count(MessageType::TransactionStart) < 2 {
                assert!(dropped.as_mut().now_or_never().is_none());
                executor::yield_now().await;
            }
            // Lets the answer come.
            crate::time::sleep(Duration::from_millis(5)).await;
            assert!(dropped.as_mut().now_or_never().is_none());
        }
        let _ = client.read("x").await;
        assert_eq!(store.count(MessageType::TransactionEnd), 2);
    });
}

#[test]
fn a_broken_ring_fails_all_requests() {
    Monitor::run_alone(|| async {
        let page = SharedPage::allocate().unwrap();
        let (near, far) = Channel::loopback().unwrap();
        let client = Client::new(page.clone(), near);
        let breaking = async {
            executor::yield_now().await;
            page.store_u32(2060, 5000, Ordering::Release);
            far.notify();
        };
        let (first, second, ()) = join3(client.read("a"), client.read("b"), breaking).await;
        assert_eq!((first, second), (Err(Errno::EIO), Err(Errno::EIO)));
        assert_eq!(client.write("a", "").await, Err(Errno::EIO));
    });
}

#[test]
fn a_ring_that_is_not_connected_yet_is_left_alone() {
    Monitor::run_alone(|| async {
        let page = SharedPage::allocate().unwrap();
        page.store_u32(2068, 1, Ordering::Relaxed);
        let (near, far) = Channel::loopback().unwrap();
        let client = Client::new(page.clone(), near);
        let mut read = pin!(client.read("a"));
        for _ in 0..10 {
            assert!(read.as_mut().now_or_never().is_none());
            executor::yield_now().await;
        }
        assert_eq!(page.load_u32(2052, Ordering::Relaxed), 0);
        page.store_u32(2068, 0, Ordering::Relaxed);
        far.notify();
        for _ in 0..10 {
            executor::yield_now().await;
        }
        assert!(page.load_u32(2052, Ordering::Relaxed) > 0);
    });
}
