//! `xl block-*`, `network-*` and `device-*`: devices are listed, given and taken away. The three
//! families differ in the words by which a device is given and told from others.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
};

use super::{
    arguments::{number, only},
    command::{Command, Failure},
    session::Session,
    table::{Align, Table},
};
use crate::{
    backends,
    block::Stop,
    toolstack::{
        Device, Side,
        device::{DeviceId, DeviceSpec},
        disk::DiskSpec,
        generic::GenericSpec,
        vif::{self, VifSpec},
    },
};

/// The verbs.
pub const COMMANDS: &[Command] = &[
    Command::new(
        "block-list",
        "DOMAIN",
        "show a domain's disks, and who waits for whom",
        |session, arguments| Box::pin(list(session, arguments, &DISKS)),
    )
    .for_programs(),
    Command::new(
        "block-attach",
        "DOMAIN DISK",
        "give a domain another disk: disk1,xvdb,w",
        |session, arguments| {
            Box::pin(attach(session, arguments, |text| {
                Ok(DeviceSpec::Disk(DiskSpec::parse(text)?))
            }))
        },
    ),
    Command::new("block-detach", "DOMAIN VDEV", "take a disk away: xvdb", |session, arguments| {
        Box::pin(detach(session, arguments, disk))
    }),
    Command::new(
        "block-restart",
        "[--crash] DOMAIN VDEV",
        "stop a disk's backend in the middle of its work, or drop that, and start it again",
        |session, arguments| Box::pin(async { restart(session, arguments) }),
    ),
    Command::new(
        "network-list",
        "DOMAIN",
        "show a domain's network interfaces, and who waits for whom",
        |session, arguments| Box::pin(list(session, arguments, &INTERFACES)),
    )
    .for_programs(),
    Command::new(
        "network-attach",
        "DOMAIN [mac=ADDRESS] [rate=10Mb/s] [bridge=xenbr0]",
        "give a domain another network interface",
        |session, arguments| {
            Box::pin(attach(session, arguments, |text| Ok(DeviceSpec::Vif(VifSpec::parse(text)?))))
        },
    ),
    Command::new(
        "network-detach",
        "DOMAIN NUMBER",
        "take a network interface away",
        |session, arguments| Box::pin(detach(session, arguments, interface)),
    ),
    Command::new(
        "device-list",
        "DOMAIN",
        "show a domain's devices of all classes, and who waits for whom",
        |session, arguments| Box::pin(list(session, arguments, &ALL)),
    )
    .for_programs(),
    Command::new(
        "device-attach",
        "DOMAIN CLASS [KEY=VALUE...]",
        "give a domain a device",
        |session, arguments| {
            Box::pin(attach(session, arguments, |text| {
                Ok(DeviceSpec::Generic(GenericSpec::parse(text)?))
            }))
        },
    ),
    Command::new(
        "device-detach",
        "DOMAIN CLASS NUMBER",
        "take a device away",
        |session, arguments| Box::pin(detach(session, arguments, device)),
    ),
];

/// How devices are listed.
struct Listing<const COLUMNS: usize> {
    /// What tells a device from others.
    headings: [(&'static str, Align); COLUMNS],
    /// Its cells; None for a device that is not in this list.
    cells: fn(&Device) -> Option<[String; COLUMNS]>,
}

const DISKS: Listing<7> = Listing {
    headings: [
        ("Vdev", Align::Left),
        ("Disk", Align::Left),
        ("Mode", Align::Left),
        FRONTEND,
        BACKEND,
        WAITS_FOR,
        PATH,
    ],
    cells: |device| {
        let DeviceSpec::Disk(disk) = &device.spec else { return None };
        let [frontend, backend, waits, path] = ends(device);
        let (vdev, target) = (disk.vdev.to_string(), disk.target.to_string());
        Some([vdev, target, disk.access.mode().into(), frontend, backend, waits, path])
    },
};

const INTERFACES: Listing<6> = Listing {
    headings: [INDEX, ("Mac Addr.", Align::Left), FRONTEND, BACKEND, WAITS_FOR, PATH],
    cells: |device| {
        let DeviceSpec::Vif(vif) = &device.spec else { return None };
        let address = vif.mac.map(|address| address.to_string()).unwrap_or_default();
        let [frontend, backend, waits, path] = ends(device);
        Some([device.id.number.to_string(), address, frontend, backend, waits, path])
    },
};

const ALL: Listing<6> = Listing {
    headings: [("Class", Align::Left), INDEX, FRONTEND, BACKEND, WAITS_FOR, PATH],
    cells: |device| {
        let DeviceId { class, number } = device.id;
        let [frontend, backend, waits, path] = ends(device);
        Some([class.into(), number.to_string(), frontend, backend, waits, path])
    },
};

const INDEX: (&str, Align) = ("Idx", Align::Right);
const FRONTEND: (&str, Align) = ("Frontend", Align::Left);
const BACKEND: (&str, Align) = ("Backend", Align::Left);
const WAITS_FOR: (&str, Align) = ("Waits for", Align::Left);
const PATH: (&str, Align) = ("BE-path", Align::Left);

/// The last cells of every list.
fn ends(Device { status, path, .. }: &Device) -> [String; 4] {
    let waits = match status.waits_for() {
        None => "-",
        Some(Side::Frontend) => "frontend",
        Some(Side::Backend) => "backend",
    };
    [format!("{:?}", status.frontend), format!("{:?}", status.backend), waits.into(), path.clone()]
}

impl<const COLUMNS: usize> Listing<COLUMNS> {
    fn table(&self, devices: &[Device]) -> Table<COLUMNS> {
        let mut table = Table::new(self.headings);
        devices.iter().filter_map(self.cells).for_each(|row| table.add(row));
        table
    }
}

async fn list<const COLUMNS: usize>(
    session: &mut Session,
    arguments: &[String],
    listing: &Listing<COLUMNS>,
) -> Result<(), Failure> {
    let mut devices = session.toolstack.devices(only(arguments)?).await?;
    devices.retain(|device| (listing.cells)(device).is_some());
    session.show(&listing.table(&devices));
    for Device { path, status, .. } in &devices {
        if let Some(error) = &status.error {
            session.note(format_args!("{path}: {error}"));
        }
    }
    Ok(())
}

/// Gives a domain a device. What follows the domain is the device's string, with spaces for commas
/// where one likes.
async fn attach(
    session: &mut Session,
    arguments: &[String],
    parse: fn(&str) -> Result<DeviceSpec, Failure>,
) -> Result<(), Failure> {
    let (domain, device) = arguments.split_first().ok_or(Failure::Usage)?;
    let device = parse(&device.join(","))?;
    let class = device.class();
    let number = session.toolstack.attach(domain, device).await?;
    writeln!(session.terminal, "{domain} has {class} {number}");
    Ok(())
}

/// Takes a device away from a domain; `find` says which, from what follows the domain.
async fn detach(
    session: &mut Session,
    arguments: &[String],
    find: fn(&Session, &str, &[String]) -> Result<DeviceId, Failure>,
) -> Result<(), Failure> {
    let (domain, device) = arguments.split_first().ok_or(Failure::Usage)?;
    let id = find(session, domain, device)?;
    Ok(session.toolstack.detach(domain, id).await?)
}

fn disk(session: &Session, domain: &str, words: &[String]) -> Result<DeviceId, Failure> {
    let [vdev] = words else { return Err(Failure::Usage) };
    Ok(session.toolstack.disk_id(domain, vdev)?)
}

fn interface(_: &Session, _: &str, words: &[String]) -> Result<DeviceId, Failure> {
    let [interface] = words else { return Err(Failure::Usage) };
    Ok(DeviceId { class: vif::CLASS, number: number(interface, "the number of an interface")? })
}

fn device(_: &Session, _: &str, words: &[String]) -> Result<DeviceId, Failure> {
    let [class, device] = words else { return Err(Failure::Usage) };
    let known = backends::classes().find(|known| known == class);
    let class = known.ok_or_else(|| Failure::BadCall(format!("there is no class `{class}`")))?;
    Ok(DeviceId { class, number: number(device, "the number of a device")? })
}

fn restart(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let (how, arguments) = match arguments.split_first() {
        Some((option, rest)) if option == "--crash" => (Stop::Crash, rest),
        _ => (Stop::Orderly, arguments),
    };
    let [domain, vdev] = arguments else { return Err(Failure::Usage) };
    Ok(session.toolstack.restart_disk(domain, vdev, how)?)
}

#[cfg(test)]
mod tests {
    use abi::xenbus::State;

    use super::super::table::Show;
    use super::*;
    use crate::toolstack::Status;

    #[test]
    fn it_shows_who_waits_for_whom() {
        let interface = Device {
            id: DeviceId { class: "vif", number: 0 },
            spec: DeviceSpec::Vif(VifSpec::parse("mac=00:16:3e:01:02:03").unwrap()),
            status: Status { frontend: State::Initialising, backend: State::InitWait, error: None },
            path: "/local/domain/0/backend/vif/1/0".into(),
        };
        assert_eq!(
            INTERFACES.table(&[interface]).text(),
            "Idx  Mac Addr.          Frontend      Backend   Waits for  BE-path\n  \
             0  00:16:3e:01:02:03  Initialising  InitWait  frontend   \
             /local/domain/0/backend/vif/1/0\n"
        );
    }
}
