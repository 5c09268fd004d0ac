//! A guest and dom0 on two threads.

use std::collections::BTreeSet;

use abi::entropy::CLASS;
use futures_util::future::try_join_all;
use pv_guest_kernel::entropy::Entropy;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::xenbus::{Caller, first_frontend};

use super::*;
use crate::testing;

/// Plays the device, which gives the numbers from 0, as pairs of bytes, so many bytes at a time.
async fn count(bytes: usize) {
    let source = source::set_up();
    let mut numbers = (0..u16::MAX).flat_map(u16::to_be_bytes);
    loop {
        source.wanted().await;
        let bytes: Vec<u8> = numbers.by_ref().take(bytes).collect();
        source.feed(&bytes);
    }
}

#[test]
fn each_byte_is_given_out_once() {
    testing::pair(
        CLASS,
        async || count(1000).await,
        async |store| {
            let entropy = Entropy::connect(&store).await.unwrap();
            let mut buffers = [[0; 5000]; 20];
            try_join_all(buffers.iter_mut().map(|bytes| entropy.fill(bytes))).await.unwrap();
            let pairs = buffers.iter().flat_map(|bytes| bytes.chunks(2));
            let numbers: BTreeSet<&[u8]> = pairs.collect();
            assert_eq!(numbers.len(), 20 * 2500);
        },
    );
}

#[test]
fn a_guest_gets_no_more_than_it_asks_for_and_no_more_than_fits() {
    testing::pair(
        CLASS,
        async || {
            let source = source::set_up();
            source.feed(&[0xff; 10_000]);
            source.wanted().await;
        },
        async |store| {
            let path = first_frontend(&store, CLASS).await.unwrap();
            let caller = Caller::<Request, Response>::connect(&store, &path).await.unwrap();
            for length in [0, 1, 4095, u32::MAX] {
                let page = SharedPage::allocate().unwrap();
                let grant = Grant::new(&page, caller.backend(), Access::ReadWrite).unwrap();
                let request = Request { reference: grant.reference(), length };
                let (response, _) = caller.lend(request, vec![grant]).await.unwrap();
                let mut bytes = [0; LENGTH_MAX];
                page.read_bytes(0, &mut bytes);
                let random = bytes.iter().filter(|&&byte| byte == 0xff).count();
                assert_eq!(random, (length as usize).min(LENGTH_MAX));
                assert_eq!(response.length as usize, random);
            }
        },
    );
}

#[test]
fn a_grant_that_is_none_gets_nothing() {
    testing::pair(
        CLASS,
        async || count(1000).await,
        async |store| {
            let path = first_frontend(&store, CLASS).await.unwrap();
            let caller = Caller::<Request, Response>::connect(&store, &path).await.unwrap();
            let page = SharedPage::allocate().unwrap();
            let readable = Grant::new(&page, caller.backend(), Access::ReadOnly).unwrap();
            for reference in [GrantRef(0), GrantRef(u32::MAX), readable.reference()] {
                let response = caller.call(Request { reference, length: 10 }).await.unwrap();
                assert_eq!(response.length, 0);
            }
        },
    );
}

#[test]
fn a_guest_learns_that_the_device_is_broken() {
    testing::pair(
        CLASS,
        async || {
            let source = source::set_up();
            source.feed(&[1; 100]);
            source.wanted().await;
            source.exhaust();
        },
        async |store| {
            let entropy = Entropy::connect(&store).await.unwrap();
            entropy.fill(&mut [0; 60]).await.unwrap();
            assert!(matches!(entropy.fill(&mut [0; 60]).await, Err(Error::Refused(_))));
            entropy.fill(&mut [0; 40]).await.unwrap();
        },
    );
}

#[test]
fn without_a_device_a_guest_is_refused() {
    testing::pair(
        CLASS,
        async || {},
        async |store| {
            let path = first_frontend(&store, CLASS).await.unwrap();
            let backend: String = store.read(&format!("{path}/backend")).await.unwrap();
            let watch = store.watch(&format!("{backend}/error")).await.unwrap();
            while store.read(&format!("{backend}/error")).await.is_err() {
                watch.next().await;
            }
        },
    );
}
