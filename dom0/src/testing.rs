//! A pair of drivers without QEMU: a guest and dom0, each on a thread of the host, with the real
//! store, the real backends and the toolstack's own entries between them.

use core::time::Duration;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use abi::{DomId, Port};
use pv_guest_kernel::{
    event::Channel, executor, host::Monitor, shared::SharedPage, time, xenstore::Client,
};

use crate::{
    backends, store,
    toolstack::{
        config::DomainConfig,
        device::{DeviceId, DeviceSpec},
        generic::GenericSpec,
        store_entries::{self, RingPorts},
        teardown,
    },
};

const GUEST: DomId = DomId(1);
/// The rings of its console and store are not where a toolstack puts them.
const PORTS: RingPorts = RingPorts { console: Port(0), store: Port(0) };

/// Runs `guest` in a domain that has one device, given as in a domain file, and meanwhile `dom0` in
/// dom0, where the backends are. When `guest` is done the device is taken away; by then dom0 must
/// have given back every port and every mapping.
pub(crate) fn pair(
    device: &str,
    dom0: impl AsyncFnOnce() + Send + 'static,
    guest: impl AsyncFnOnce(Client) + Send + 'static,
) {
    let device = DeviceSpec::Generic(GenericSpec::parse(device).unwrap());
    let monitor = Monitor::new();
    let (offer, offered) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let served = monitor.start(DomId::DOM0, {
        let monitor = monitor.clone();
        move || async move {
            let task = executor::spawn(dom0());
            serve(&monitor, &device, offer, ended).await;
            drop(task);
        }
    });
    let used = monitor.start(GUEST, move || async move {
        let (page, port) = offered.recv().unwrap();
        let channel = Channel::bind_interdomain(DomId::DOM0, port).unwrap();
        guest(Client::new(page, channel)).await;
    });
    used.join();
    end.send(()).unwrap();
    served.join();
}

/// dom0's part: makes the guest's device, and takes it away when told that the guest has ended.
async fn serve(
    monitor: &Monitor,
    device: &DeviceSpec,
    offer: Sender<(SharedPage, Port)>,
    ended: Receiver<()>,
) {
    let server = store::Server::new();
    let page = SharedPage::allocate().unwrap();
    let (server_end, client_end) = Channel::loopback().unwrap();
    server.introduce(DomId::DOM0, page.clone(), server_end);
    let store = Client::new(page, client_end);
    backends::start(&store);

    let config = DomainConfig::parse("name = 'guest'\nkernel = 'none'", &[]).unwrap();
    store_entries::publish_domain(&store, GUEST, "guest", &config, PORTS).await.unwrap();
    let (page, channel) = (SharedPage::allocate().unwrap(), Channel::alloc_unbound(GUEST).unwrap());
    let port = channel.port();
    server.introduce(GUEST, page.clone(), channel);
    let before = monitor.holdings(DomId::DOM0);
    let id = DeviceId { class: device.class(), number: 0 };
    store_entries::publish_device(&store, GUEST, id, device).await.unwrap();
    offer.send((page, port)).unwrap();

    while ended.try_recv() == Err(TryRecvError::Empty) {
        time::sleep(Duration::from_millis(1)).await;
    }
    teardown::detach_all(&store, GUEST).await;
    assert_eq!(monitor.holdings(DomId::DOM0), before, "the backend has kept something");
}
