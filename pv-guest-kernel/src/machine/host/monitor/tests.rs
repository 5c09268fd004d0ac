//! The rules between domains.

use std::sync::mpsc;

use abi::Errno;
use abi::grant::Status;

use super::*;
use crate::event::Channel;
use crate::grant::{Access, CopyBatch, End, Grant, GrantError, Mapping};
use crate::shared::SharedPage;

const GUEST: DomId = DomId(5);
const STRANGER: DomId = DomId(6);
const NOTHING: Holdings = Holdings { ports: 0, granted: 0, mapped: 0 };

#[test]
fn an_event_wakes_a_domain_that_sleeps() {
    let monitor = Monitor::new();
    let (tell, told) = mpsc::channel();
    let dom0 = monitor.start(DomId::DOM0, move || async move {
        let channel = Channel::alloc_unbound(GUEST).unwrap();
        tell.send(channel.port()).unwrap();
        channel.wait().await;
        channel.notify();
    });
    let guest = monitor.start(GUEST, move || async move {
        let channel = Channel::bind_interdomain(DomId::DOM0, told.recv().unwrap()).unwrap();
        channel.notify();
        channel.wait().await;
    });
    guest.join();
    dom0.join();
    assert_eq!([DomId::DOM0, GUEST].map(|domain| monitor.holdings(domain)), [NOTHING; 2]);
}

#[test]
fn a_port_is_for_the_domain_that_it_was_allocated_for() {
    let monitor = Monitor::new();
    let (tell, told) = mpsc::channel();
    let owner = monitor.start(DomId::DOM0, move || async move {
        let channel = Channel::alloc_unbound(GUEST).unwrap();
        tell.send(channel.port()).unwrap();
        channel.wait().await;
    });
    let port = told.recv().unwrap();
    let bind = move || async move {
        Channel::bind_interdomain(DomId::DOM0, port).map(|channel| channel.notify())
    };
    assert_eq!(monitor.start(STRANGER, bind).join(), Err(Errno::EINVAL));
    assert_eq!(monitor.start(GUEST, bind).join(), Ok(()));
    owner.join();
}

#[test]
fn a_grant_is_for_one_domain_and_its_page_stays_while_that_has_it() {
    let monitor = Monitor::new();
    let (tell, told) = mpsc::channel();
    let (proceed, wait) = mpsc::channel();
    let guest = monitor.start(GUEST, move || async move {
        let page = SharedPage::allocate().unwrap();
        page.write_bytes(0, b"from the guest");
        let grant = Grant::new(&page, DomId::DOM0, Access::ReadWrite).unwrap();
        tell.send(grant.reference()).unwrap();
        wait.recv().unwrap();
        drop(grant);
        tell.send(abi::GrantRef(0)).unwrap();
        let mut bytes = [0; 14];
        page.read_bytes(0, &mut bytes);
        bytes
    });
    let reference = told.recv().unwrap();
    let refused = monitor.start(STRANGER, move || async move {
        Mapping::new(GUEST, &[reference], Access::ReadWrite).map(drop)
    });
    let status = Status::BadGrantRef.raw();
    assert_eq!(refused.join(), Err(GrantError::Refused { index: 0, status }));

    let (holding, held) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let dom0 = monitor.start(DomId::DOM0, move || async move {
        let mapping = Mapping::new(GUEST, &[reference], Access::ReadWrite).unwrap();
        mapping.page(0).write_bytes(9, b"dom0!");
        holding.send(()).unwrap();
        released.recv().unwrap();
    });
    held.recv().unwrap();
    proceed.send(()).unwrap();
    told.recv().unwrap();
    assert_eq!(&guest.join(), b"from the dom0!");
    let in_use = Holdings { granted: 1, ..NOTHING };
    assert_eq!(monitor.holdings(GUEST), in_use, "the page is not given up while it is mapped");
    assert_eq!(monitor.holdings(DomId::DOM0), Holdings { mapped: 1, ..NOTHING });
    release.send(()).unwrap();
    dom0.join();
    assert_eq!(monitor.holdings(DomId::DOM0), NOTHING);
}

#[test]
fn copies_obey_the_grants_access() {
    let monitor = Monitor::new();
    let (tell, told) = mpsc::channel();
    let (done, wait) = mpsc::channel();
    let guest = monitor.start(GUEST, move || async move {
        let page = SharedPage::allocate().unwrap();
        let grant = Grant::new(&page, DomId::DOM0, Access::ReadOnly).unwrap();
        tell.send(grant.reference()).unwrap();
        wait.recv().unwrap();
    });
    let reference = told.recv().unwrap();
    let dom0 = monitor.start(DomId::DOM0, move || async move {
        let page = SharedPage::allocate().unwrap();
        let granted = End::Granted(GUEST, reference);
        let mut copies = CopyBatch::default();
        let read = copies.push((granted, 0), (End::Own(&page), 0), 16);
        let write = copies.push((End::Own(&page), 0), (granted, 0), 16);
        copies.run().unwrap();
        (copies.is_done(read), copies.is_done(write))
    });
    assert_eq!(dom0.join(), (true, false));
    done.send(()).unwrap();
    guest.join();
    assert_eq!(monitor.holdings(GUEST), NOTHING);
}
