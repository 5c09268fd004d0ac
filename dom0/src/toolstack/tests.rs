//! Commands at the same time: what one of them has, no other gets.

use core::pin::pin;

use abi::{DomId, domctl::DomainInfo};
use futures_util::future::{join, join_all, select};
use pv_guest_kernel::{event::Channel, executor, shared::SharedPage};

use super::{
    config::DomainConfig,
    device::{DeviceId, DeviceSpec},
    disk::DiskSpec,
    generic::GenericSpec,
    store_entries::{Ends, RingPorts, domain_path},
    vif::VifSpec,
    *,
};
use crate::block::disks;

const PORTS: RingPorts = RingPorts { console: abi::Port(0), store: abi::Port(0) };

/// A toolstack with a store and no monitor.
fn toolstack() -> Toolstack {
    let store_server = store::Server::new();
    let page = SharedPage::allocate().unwrap();
    let (server_end, client_end) = Channel::loopback().unwrap();
    store_server.introduce(DomId::DOM0, page.clone(), server_end);
    let services = Services {
        ramdisk: Ramdisk::default(),
        store_server,
        store: Client::new(page, client_end),
        consoles: console::Backend::new(),
    };
    Toolstack::new(services).unwrap()
}

/// Runs a test on a toolstack, beside backends that take every device.
fn run(test: impl AsyncFnOnce(Toolstack) + 'static) {
    executor::run(async move {
        let toolstack = toolstack();
        let store = toolstack.0.services.store.clone();
        select(pin!(test(toolstack)), pin!(take_devices(&store))).await;
    });
}

/// What backends do with a new device, those of all classes: they are ready for its frontend.
async fn take_devices(store: &Client) {
    let watch = store.watch("/local/domain/0/backend").await.unwrap();
    loop {
        let path = watch.next().await;
        let is_new = store.read(&path).await.is_ok_and(|state| state == "1");
        if path.ends_with("/state") && is_new {
            store.write(&path, "2").await.unwrap();
        }
    }
}

/// A domain that runs, as far as the toolstack can tell.
async fn guest(toolstack: &Toolstack, name: &str, id: u16) -> Summary {
    let id = DomId(id);
    let config = DomainConfig::parse(&format!("name = '{name}'\nkernel = 'none'"), &[]).unwrap();
    let estate = Estate::new(&toolstack.0.registry, name).unwrap();
    let store = &toolstack.0.services.store;
    store_entries::publish_domain(store, id, name, &config, PORTS).await.unwrap();
    let mut domain = Domain::new(config, estate);
    assert!(domain.built());
    toolstack.0.domains.borrow_mut().insert(id, domain);
    Summary { name: name.into(), info: DomainInfo { domain: id, ..DomainInfo::default() } }
}

fn disk(text: &str) -> DeviceSpec {
    DeviceSpec::Disk(DiskSpec::parse(text).unwrap())
}

fn interface(text: &str) -> DeviceSpec {
    DeviceSpec::Vif(VifSpec::parse(text).unwrap())
}

#[test]
fn of_two_at_once_one_gets_the_disk() {
    run(async |toolstack| {
        disks::tests::add("disk0", false);
        let (one, two) = (guest(&toolstack, "one", 1).await, guest(&toolstack, "two", 2).await);
        let attach = |guest, text| toolstack.attach_to(guest, disk(text));
        let both = join(attach(&one, "disk0,xvda,w"), attach(&two, "disk0@1K+1K,xvda,r")).await;
        let in_use = Error::DiskInUse { disk: "disk0".into(), user: "one".into() };
        assert_eq!(both, (Ok(51712), Err(in_use)));
        let names = join(attach(&two, "ram:1M,xvdb"), attach(&two, "ram:2M,xvdb")).await;
        assert!(matches!(names, (Ok(51728), Err(Error::VdevTaken { .. }))), "{names:?}");
    });
}

#[test]
fn interfaces_that_come_at_once_have_numbers_and_addresses_of_their_own() {
    run(async |toolstack| {
        let web = guest(&toolstack, "web", 1).await;
        let mut numbers = join_all((0..8).map(|_| toolstack.attach_to(&web, interface("")))).await;
        numbers.sort_by_key(|number| number.clone().unwrap_or_default());
        assert_eq!(numbers, (0..8).map(Ok).collect::<Vec<_>>());
        let same = || toolstack.attach_to(&web, interface("mac=00:16:3e:00:00:07"));
        assert!(matches!(join(same(), same()).await, (Ok(8), Err(Error::AddressInUse { .. }))));
        let dom0s = interface(&format!("mac={DOM0_ADDRESS}"));
        let error = toolstack.attach_to(&web, dom0s).await.unwrap_err();
        assert!(error.to_string().contains("in use by domain `dom0`"), "{error}");
    });
}

#[test]
fn what_fails_gives_back_what_it_took() {
    run(async |toolstack| {
        disks::tests::add("disk0", false);
        let (gone, other) = (guest(&toolstack, "gone", 1).await, guest(&toolstack, "b", 2).await);
        let store = &toolstack.0.services.store;
        // Its directory goes while the device's entries are being written.
        let directory = domain_path(DomId(1));
        let (attached, removed) =
            join(toolstack.attach_to(&gone, disk("disk0,xvda,w")), store.remove(&directory)).await;
        assert!(removed.is_ok() && attached.is_err(), "{attached:?}");
        assert_eq!(store.read(&directory).await, Err(Errno::ENOENT), "the attachment made it anew");
        assert_eq!(toolstack.attach_to(&other, disk("disk0,xvda,w")).await, Ok(51712));
    });
}

#[test]
fn a_device_is_taken_away_once() {
    run(async |toolstack| {
        let guest = guest(&toolstack, "a", 1).await;
        let random = DeviceSpec::Generic(GenericSpec::parse("entropy").unwrap());
        let number = toolstack.attach_to(&guest, random).await.unwrap();
        let id = DeviceId { class: "entropy", number };
        // What its backend would say next is said here.
        let state = format!("{}/state", Ends::of(DomId(1), id).backend);
        toolstack.0.services.store.write(&state, "6").await.unwrap();
        let detach = || toolstack.detach_from(&guest, id);
        let (one, two) = join(detach(), detach()).await;
        assert_eq!(one, Ok(()));
        assert!(matches!(two, Err(Error::UnknownDevice { .. })), "{two:?}");
    });
}

#[test]
fn of_two_names_that_a_domain_gets_at_once_the_store_says_the_one_it_has() {
    run(async |toolstack| {
        let (one, two) = (guest(&toolstack, "one", 1).await, guest(&toolstack, "two", 2).await);
        let rename = |guest, name| toolstack.rename_to(guest, name);
        let both = join(rename(&one, "three"), rename(&two, "three")).await;
        assert!(matches!(both, (Ok(()), Err(Error::NameTaken { .. }))), "{both:?}");
        assert!(matches!(rename(&two, "dom0").await, Err(Error::NameTaken { .. })));
        let both = join(rename(&one, "four"), rename(&one, "five")).await;
        assert_eq!(both, (Ok(()), Ok(())));
        let name = toolstack.with(&one, |domain| domain.estate.name()).unwrap();
        let path = format!("{}/name", domain_path(DomId(1)));
        assert_eq!(toolstack.0.services.store.read(&path).await, Ok(name));
        for free in ["one", "three"] {
            assert_eq!(rename(&two, free).await, Ok(()));
        }
    });
}
