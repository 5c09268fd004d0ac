//! Builds a domain, from an empty one to one that is ready to run.
//!
//! Nothing here cleans up: a step that fails leaves what the steps before it did, and the caller
//! takes the domain apart as it would any other.

use alloc::{string::String, vec::Vec};

use abi::{
    DomId, Errno, Gfn, Port,
    domctl::{CreateDomain, VcpuContext},
    guest_map::{CONSOLE_FRAME, GICD_BASE, GICR_BASE, STORE_FRAME},
    hvm::Index,
};
use pv_guest_kernel::{event::Channel, foreign, hypercall, shared::SharedPage, xenstore::Client};

use super::{
    Services,
    config::DomainConfig,
    device::{DeviceId, DeviceSpec},
    error::{Error, failed},
    estate::Estate,
    memory,
    plan::Plan,
    store_entries::{self, RingPorts},
};

/// A domain that is to be built, and what goes into it.
#[derive(Debug)]
pub struct Site {
    /// Which.
    pub domain: DomId,
    /// What it is made from.
    pub config: DomainConfig,
    /// Its name.
    pub name: String,
    /// Its devices.
    pub devices: Vec<(DeviceId, DeviceSpec)>,
}

impl Site {
    /// That of a domain with this estate.
    pub fn new(domain: DomId, config: &DomainConfig, estate: &Estate) -> Site {
        let devices = estate.devices().map(|(id, device)| (id, device.clone())).collect();
        Site { domain, config: config.clone(), name: estate.name(), devices }
    }
}

/// Makes an empty domain: vCPUs, and the right to as many frames as it is to have.
///
/// # Errors
/// The monitor's; `ENOMEM` when it has no frames for the domain's own tables.
pub fn create_empty(config: &DomainConfig) -> Result<DomId, Errno> {
    hypercall::domctl::create(&CreateDomain {
        max_frames: memory::frames(config.memory),
        max_vcpus: config.max_vcpus(),
        max_grant_frames: config.max_grant_frames,
        gicd_base: GICD_BASE,
        gicr_base: GICR_BASE,
        max_event_port: config.event_channels,
        padding: 0,
    })
}

/// Fills the domain and connects it to what serves it. It is paused still.
///
/// # Errors
/// Says which step failed.
pub async fn fill(services: &Services, site: &Site, plan: &Plan<'_>) -> Result<(), Error> {
    let domain = site.domain;
    memory::populate(domain, &plan.ram).map_err(failed("give the domain its memory"))?;
    for segment in plan.segments() {
        memory::copy_to(domain, segment.address, segment.bytes)
            .map_err(failed("copy the kernel into the domain"))?;
    }

    let console = Ring::make(domain, CONSOLE_FRAME, Index::ConsolePfn, Index::ConsoleEvtchn)
        .map_err(failed("make the console's ring"))?;
    let store = Ring::make(domain, STORE_FRAME, Index::StorePfn, Index::StoreEvtchn)
        .map_err(failed("make the store's ring"))?;
    let ports = RingPorts { console: console.guest_port, store: store.guest_port };
    publish(&services.store, site, ports).await.map_err(failed("write the store's entries"))?;

    services.store_server.introduce(domain, store.page, store.channel);
    let has_uart = site.config.vuart.is_some();
    services.consoles.attach(domain, &site.name, console.page, console.channel, has_uart);

    let (pc, x0) = (plan.image.entry, plan.tree_address);
    let context = VcpuContext { pc, x0, ..VcpuContext::default() };
    hypercall::domctl::set_vcpu_context(domain, &context)
        .map_err(failed("set where the domain starts"))
}

async fn publish(store: &Client, site: &Site, ports: RingPorts) -> Result<(), Errno> {
    let Site { domain, config, name, devices } = site;
    store_entries::publish_domain(store, *domain, name, config, ports).await?;
    for (id, device) in devices {
        store_entries::publish_device(store, *domain, *id, device).await?;
    }
    Ok(())
}

/// dom0's side of a ring page in a guest, and the guest's port for it.
struct Ring {
    page: SharedPage,
    channel: Channel,
    guest_port: Port,
}

impl Ring {
    /// Maps the guest's frame, connects a channel, and tells the guest where to find both.
    fn make(
        domain: DomId,
        frame: Gfn,
        frame_index: Index,
        port_index: Index,
    ) -> Result<Ring, Errno> {
        let page = foreign::Map::new(domain, &[frame])?.page(0);
        let guest_port = hypercall::event_channel::alloc_unbound(domain, DomId::DOM0)?;
        let channel = Channel::bind_interdomain(domain, guest_port)?;
        hypercall::hvm::set_parameter(domain, frame_index, frame.0)?;
        hypercall::hvm::set_parameter(domain, port_index, u64::from(guest_port.0))?;
        Ok(Ring { page, channel, guest_port })
    }
}
