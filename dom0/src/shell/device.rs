//! `xl device-list`, `device-attach` and `device-detach`: devices of any class.

use alloc::{
    format,
    string::{String, ToString},
};

use super::{
    Session,
    command::{Failure, number},
    table::{Align, Table},
};
use crate::toolstack::{Device, device::DeviceSpec};

/// `xl device-list`
pub async fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain] = arguments else { return Err(Failure::Usage) };
    let devices = session.toolstack.devices(domain).await?;
    session.show(&table(&devices));
    for Device { path, status, .. } in &devices {
        if let Some(error) = &status.error {
            session.note(format_args!("{path}: {error}"));
        }
    }
    Ok(())
}

/// `xl device-attach`
pub async fn attach(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (domain, device) = arguments.split_first().ok_or(Failure::Usage)?;
    let device = DeviceSpec::parse(&device.join(","))?;
    let number = session.toolstack.attach_device(domain, &device).await?;
    writeln!(session.terminal, "{domain} has {} {number}", device.class);
    Ok(())
}

/// `xl device-detach`
pub async fn detach(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, class, device] = arguments else { return Err(Failure::Usage) };
    let device = number(device, "the number of a device")?;
    Ok(session.toolstack.detach_device(domain, class, device).await?)
}

fn table(devices: &[Device]) -> Table<5> {
    let mut table = Table::new([
        ("Class", Align::Left),
        ("Idx", Align::Right),
        ("Frontend", Align::Left),
        ("Backend", Align::Left),
        ("BE-path", Align::Left),
    ]);
    for Device { class, number, status, path } in devices {
        table.add([
            class.to_string(),
            number.to_string(),
            format!("{:?}", status.frontend),
            format!("{:?}", status.backend),
            path.clone(),
        ]);
    }
    table
}
