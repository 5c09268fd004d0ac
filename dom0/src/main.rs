//! dom0's kernel: starts the store, the backends and the toolstack, and gives the shell.

#![no_std]
#![no_main]

extern crate alloc;

use abi::{DomId, sched::ShutdownReason};
use dom0::{
    backends, block, console, control, entropy, network,
    ramdisk::Ramdisk,
    shell, store,
    toolstack::{self, Services, Toolstack},
};
use pv_guest_kernel::{
    Environment, event::Channel, executor, guest_main, power, println, shared::SharedPage, smp,
    xenstore::Client,
};

guest_main!(main);

async fn main(environment: &'static Environment) {
    println!("Aurochs dom0 {} (type `help` for what it can do)", env!("CARGO_PKG_VERSION"));
    match start(environment) {
        Ok((toolstack, store)) => {
            shell::serve(control::start(environment), &toolstack, &store);
            shell::run(toolstack, store).await;
        }
        Err(error) => {
            println!("dom0 cannot start: {error}");
            power::shutdown(ShutdownReason::Crash);
        }
    }
}

fn start(environment: &'static Environment) -> Result<(Toolstack, Client), StartError> {
    let store_server = store::Server::new();
    let store = connect(&store_server)?;
    block::disks::discover(environment);
    executor::spawn(own_vcpus(store.clone(), environment.vcpus)).detach();
    network::start(environment);
    entropy::start(environment);
    backends::start(&store);
    let services = Services {
        ramdisk: open_ramdisk(environment),
        store_server,
        store: store.clone(),
        consoles: console::Backend::new(),
    };
    Ok((Toolstack::start(services)?, store))
}

/// Connects dom0 to its own store as a guest would be: by a ring page and an event channel.
fn connect(server: &store::Server) -> Result<Client, StartError> {
    let page = SharedPage::allocate()?;
    let (server_end, client_end) = Channel::loopback()?;
    server.introduce(DomId::DOM0, page.clone(), server_end);
    Ok(Client::new(page, client_end))
}

/// Has dom0's other vCPUs online, as long as `xl vcpu-set` says nothing else. They have nothing to
/// do yet, and cost nothing while they wait for something.
async fn own_vcpus(store: Client, vcpus: usize) {
    let all = vcpus.min(smp::MAX_VCPUS) as u32;
    if all == 1 {
        return;
    }
    let published = toolstack::publish_vcpus(&store, DomId::DOM0, all, all).await;
    let followed = match published {
        Ok(()) => smp::hotplug::follow(store, vcpus).await,
        error => error,
    };
    if let Err(error) = followed {
        log::warn!("dom0 uses one vCPU: {error}");
    }
}

/// The ramdisk, or an empty one: a shell without guests is better than none.
fn open_ramdisk(environment: &'static Environment) -> Ramdisk {
    let Some(archive) = environment.initrd else {
        log::warn!("there is no ramdisk: no guests can be created");
        return Ramdisk::default();
    };
    Ramdisk::new(archive).unwrap_or_else(|error| {
        log::error!("the ramdisk is damaged ({error}): no guests can be created");
        Ramdisk::default()
    })
}

/// Why dom0 cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// The monitor refused something.
    #[error("{0}")]
    Monitor(#[from] abi::Errno),
    /// No memory for the store's ring.
    #[error("out of memory")]
    Memory(#[from] pv_guest_kernel::memory::OutOfMemory),
}
