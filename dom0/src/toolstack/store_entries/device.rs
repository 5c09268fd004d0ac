//! What the store says of a device: a directory for each of its two ends.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Display;

use abi::{DomId, Errno, net, xenbus::State};
use pv_guest_kernel::xenstore::Client;

use super::{
    super::{
        device::{DeviceId, DeviceSpec},
        disk::DiskSpec,
        generic::GenericSpec,
        vif::{BRIDGE, VifSpec},
    },
    Directory, Entry, Writer, domain_path, write,
};

/// Directory of all backends of one kind that serve a domain.
pub fn backends_path(domain: DomId, class: &str) -> String {
    format!("{}/backend/{class}/{}", domain_path(DomId::DOM0), domain.0)
}

/// The two directories of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// Its frontend's.
    pub frontend: String,
    /// Its backend's.
    pub backend: String,
}

impl Ends {
    /// Those of the device with this name in its class, which is a number as a rule.
    pub fn new(domain: DomId, class: &str, name: impl Display) -> Ends {
        Ends {
            frontend: format!("{}/device/{class}/{name}", domain_path(domain)),
            backend: format!("{}/{name}", backends_path(domain, class)),
        }
    }

    /// Those of a device.
    pub fn of(domain: DomId, DeviceId { class, number }: DeviceId) -> Ends {
        Ends::new(domain, class, number)
    }
}

/// Makes both ends of a device, in one step: a backend sees either nothing or all of it.
///
/// # Errors
/// `ENOENT` if the domain has no directory (any more): a device alone would stay for ever. The
/// store's.
pub async fn publish_device(
    store: &Client,
    domain: DomId,
    id: DeviceId,
    device: &DeviceSpec,
) -> Result<(), Errno> {
    let own = format!("{}/domid", domain_path(domain));
    let entries = entries(domain, id, device);
    store
        .transaction(async |view| {
            view.read(&own).await?;
            write(view, domain, &entries).await
        })
        .await
}

fn entries(domain: DomId, id: DeviceId, device: &DeviceSpec) -> Vec<Entry> {
    let Ends { frontend, backend } = Ends::of(domain, id);
    let mut front = Directory::new(frontend.clone(), Writer::Guest);
    front.add("backend", &backend);
    front.add("backend-id", DomId::DOM0.0);
    let mut back = Directory::new(backend, Writer::Dom0);
    back.add("frontend", frontend);
    back.add("frontend-id", domain.0);
    match device {
        DeviceSpec::Disk(disk) => add_disk(&mut front, &mut back, disk),
        DeviceSpec::Vif(vif) => add_vif(&mut front, &mut back, domain, id.number, vif),
        DeviceSpec::Generic(device) => add_generic(&mut back, device),
    }
    front.add("state", State::Initialising.raw());
    back.add("online", 1);
    back.add("state", State::Initialising.raw());
    front.entries.extend(back.entries);
    front.entries
}

fn add_disk(front: &mut Directory, back: &mut Directory, disk: &DiskSpec) {
    let device_type = if disk.cdrom { "cdrom" } else { "disk" };
    front.add("virtual-device", disk.vdev.number());
    front.add("device-type", device_type);

    back.add("params", &disk.target);
    back.add("dev", disk.vdev);
    back.add("mode", disk.access.mode());
    if let Some(overlay) = &disk.overlay {
        back.add("overlay", overlay);
    }
    for (key, rate) in [("rate", disk.rate), ("iops", disk.iops)] {
        if let Some(rate) = rate {
            back.add(key, rate);
        }
    }
    back.add("device-type", device_type);
    back.add("removable", u8::from(disk.cdrom));
}

fn add_vif(front: &mut Directory, back: &mut Directory, domain: DomId, number: u32, vif: &VifSpec) {
    for end in [front, &mut *back] {
        end.add("handle", number);
        if let Some(address) = vif.mac {
            end.add(net::key::MAC, address);
        }
    }
    back.add("bridge", BRIDGE);
    back.add("vifname", format!("vif{}.{number}", domain.0));
    if let Some(rate) = vif.rate {
        back.add("rate", rate);
    }
}

fn add_generic(back: &mut Directory, device: &GenericSpec) {
    for (key, value) in &device.settings {
        back.add(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: DomId = DomId(5);

    fn value(entries: &[Entry], path: &str) -> String {
        let found: Vec<_> = entries.iter().filter(|entry| entry.path == path).collect();
        assert_eq!(found.len(), 1, "{path}");
        found[0].value.clone()
    }

    #[test]
    fn both_ends_of_a_disk_point_at_each_other() {
        let disk = DeviceSpec::Disk(DiskSpec::parse("disk1,xvdb,r").unwrap());
        let id = DeviceId { class: "vbd", number: 51728 };
        let entries = entries(GUEST, id, &disk);
        let (front, back) =
            ("/local/domain/5/device/vbd/51728", "/local/domain/0/backend/vbd/5/51728");
        assert_eq!(value(&entries, &format!("{front}/backend")), back);
        assert_eq!(value(&entries, &format!("{back}/frontend")), front);
        assert_eq!(value(&entries, &format!("{back}/frontend-id")), "5");
        assert_eq!(value(&entries, &format!("{back}/params")), "disk1");
        assert_eq!(value(&entries, &format!("{back}/mode")), "r");
        assert_eq!(value(&entries, &format!("{back}/state")), "1");
        assert_eq!(entries[0].writer, Some(Writer::Guest));
    }

    #[test]
    fn both_ends_of_an_interface_point_at_each_other() {
        let vif = VifSpec::parse("rate=1MB/s").unwrap().settled("web", 1);
        let id = DeviceId { class: "vif", number: 1 };
        let entries = entries(GUEST, id, &DeviceSpec::Vif(vif));
        let (front, back) = ("/local/domain/5/device/vif/1", "/local/domain/0/backend/vif/5/1");
        assert_eq!(value(&entries, &format!("{front}/backend")), back);
        assert_eq!(value(&entries, &format!("{back}/frontend")), front);
        assert_eq!(value(&entries, &format!("{back}/frontend-id")), "5");
        assert_eq!(value(&entries, &format!("{back}/rate")), "50000,50000");
        let addresses = [front, back].map(|end| value(&entries, &format!("{end}/mac")));
        assert_eq!(addresses[0], addresses[1]);
        assert_eq!(entries[0].writer, Some(Writer::Guest));
    }
}
