//! What a greedy domain gets.

use std::{format, vec};

use abi::{Errno, xenstore::MessageType};

use super::{Bench, Quotas};
use crate::store::quota::Quota;

fn small() -> Quotas {
    Quotas {
        nodes: 10,
        bytes: 4096,
        node_size: 100,
        permissions: 2,
        watches: 3,
        transactions: 2,
        transaction_size: 1000,
        events: 4,
        ..Quotas::default()
    }
}

#[test]
fn nodes() {
    let mut bench = Bench::with_quotas(&[3], small());
    for n in 0..9 {
        bench.write(3, &format!("n{n}"), "").unwrap();
    }
    assert_eq!(bench.write(3, "n9", ""), Err(Errno::ENOSPC));
    assert_eq!(bench.mkdir(3, "n8/below"), Err(Errno::ENOSPC));
    assert_eq!(bench.write(3, "n8", "rewriting takes no node"), Ok(()));
    bench.write(0, "/local/domain/3/from0", "").unwrap();
    bench.remove(0, "/local/domain/3/from0").unwrap();
    bench.remove(3, "n0").unwrap();
    assert_eq!(bench.mkdir(3, "a/b"), Err(Errno::ENOSPC), "all or none");
    assert_eq!(bench.read(3, "a"), Err(Errno::ENOENT));
    assert_eq!(bench.mkdir(3, "a"), Ok(()));
    bench.remove(3, "/local/domain/3").unwrap();
}

#[test]
fn nodes_in_transactions_count_at_the_commit() {
    let mut bench = Bench::with_quotas(&[3], small());
    let id = bench.start(3).unwrap();
    for n in 0..5 {
        bench.write_in(3, id, &format!("n{n}"), "").unwrap();
    }
    for n in 5..10 {
        bench.write(3, &format!("n{n}"), "").unwrap();
    }
    assert_eq!(bench.end(3, id, "T"), Err(Errno::ENOSPC));
    assert_eq!(bench.read(3, "n0"), Err(Errno::ENOENT));
}

#[test]
fn sizes() {
    let mut bench = Bench::with_quotas(&[3], Quotas { nodes: 1000, ..small() });
    assert_eq!(bench.write(3, "a", &"x".repeat(100)), Ok(()));
    assert_eq!(bench.write(3, "a", &"x".repeat(101)), Err(Errno::ENOSPC));
    assert_eq!(bench.write(0, "/local/domain/3/a", &"x".repeat(3000)), Ok(()), "dom0 may");
    assert_eq!(bench.write(3, "a", ""), Ok(()), "less is always welcome");
    let mut fill = |n: &u32| bench.write(3, &format!("n{n}"), &"x".repeat(99)).is_err();
    let full = (10..1000).find(&mut fill).unwrap();
    assert!((20..40).contains(&full));
    assert!(fill(&full), "still");
    bench.remove(3, "n10").unwrap();
    assert_eq!(bench.write(3, &format!("n{full}"), &"x".repeat(99)), Ok(()));
}

#[test]
fn permissions() {
    let mut bench = Bench::with_quotas(&[3], small());
    bench.write(3, "a", "").unwrap();
    assert_eq!(bench.set_permissions(3, "a", &["n3", "r4"]), Ok(()));
    assert_eq!(bench.set_permissions(3, "a", &["n3", "r4", "r5"]), Err(Errno::ENOSPC));
}

#[test]
fn watches_and_transactions() {
    let mut bench = Bench::with_quotas(&[3], small());
    for n in 0..3 {
        bench.watch_quietly(3, "a", &format!("{n}"));
    }
    assert_eq!(bench.watch(3, "a", "3"), Err(Errno::E2BIG));
    bench.strings(3, MessageType::Unwatch, 0, &["a", "0"]).unwrap();
    assert_eq!(bench.watch(3, "a", &"t".repeat(100)), Err(Errno::E2BIG));
    assert_eq!(bench.watch(3, "a", "3"), Ok(()));

    let first = bench.start(3).unwrap();
    bench.start(3).unwrap();
    assert_eq!(bench.start(3), Err(Errno::ENOSPC));
    bench.end(3, first, "F").unwrap();
    assert!(bench.start(3).is_ok());
    for _ in 0..20 {
        bench.start(0).unwrap();
    }
}

#[test]
fn what_a_transaction_remembers() {
    let mut bench = Bench::with_quotas(&[3], small());
    let id = bench.start(3).unwrap();
    let full = (0..100).find(|_| bench.write_in(3, id, "a", "0123456789") == Err(Errno::ENOSPC));
    assert!((5..20).contains(&full.unwrap()));
    assert_eq!(bench.read_in(3, id, "b"), Err(Errno::ENOSPC));
    assert_eq!(bench.end(3, id, "T"), Ok(()));
    assert_eq!(bench.read(3, "a").unwrap(), "0123456789");
}

#[test]
fn events_that_pile_up_are_merged_into_one_for_each_watch() {
    let mut bench = Bench::with_quotas(&[3], small());
    bench.watch_quietly(3, "a", "t");
    for n in 0..8 {
        bench.write(3, &format!("a/{n}"), "").unwrap();
    }
    let events = bench.events(3);
    let path = |n| format!("a/{n}");
    assert_eq!(
        events,
        vec![path(0), path(1), path(2), path(3), "a".into()]
            .into_iter()
            .map(|path| (path, "t".into()))
            .collect::<std::vec::Vec<_>>()
    );
}

#[test]
fn the_queue_of_events_is_bounded_whatever_a_client_registers() {
    let mut bench = Bench::with_quotas(&[3], small());
    bench.watch(3, "keep", "t").unwrap();
    for n in 0..100 {
        bench.watch(3, &format!("w{n}"), "t").unwrap();
        bench.write(0, &format!("/local/domain/3/w{n}/x"), "").unwrap();
        bench.strings(3, MessageType::Unwatch, 0, &[&format!("w{n}"), "t"]).unwrap();
    }
    assert!(bench.events(3).len() <= 4 + 3);
}

#[test]
fn the_log_can_say_which_quota_and_what_to_do() {
    let quotas = small();
    assert_eq!(quotas.exceed(Quota::Nodes), Errno::ENOSPC);
    assert_eq!(quotas.exceed(Quota::Watches), Errno::E2BIG);
    assert_eq!(quotas.exceeded.take(), Some(Quota::Watches));
    assert_eq!(quotas.exceeded.take(), None);
    let text = quotas.describe(Quota::Watches);
    assert!(text.contains("3 watches") && text.contains("must remove"), "{text}");
}
