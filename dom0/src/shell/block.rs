//! `xl block-list`, `block-attach`, `block-detach` and `block-restart`.

use alloc::{format, string::String};

use super::{
    Session,
    command::Failure,
    table::{Align, Table},
};
use crate::toolstack::{AttachedDisk, disk::DiskSpec};

/// `xl block-list`
pub async fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain] = arguments else { return Err(Failure::Usage) };
    let disks = session.toolstack.attached_disks(domain).await?;
    session.show(&table(&disks));
    for AttachedDisk { path, status, .. } in &disks {
        if let Some(error) = &status.error {
            session.note(format_args!("{path}: {error}"));
        }
    }
    Ok(())
}

/// `xl block-attach`
pub async fn attach(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (domain, disk) = arguments.split_first().ok_or(Failure::Usage)?;
    let disk = DiskSpec::parse(&disk.join(","))?;
    Ok(session.toolstack.attach_disk(domain, &disk).await?)
}

/// `xl block-detach`
pub async fn detach(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, vdev] = arguments else { return Err(Failure::Usage) };
    Ok(session.toolstack.detach_disk(domain, vdev).await?)
}

/// `xl block-restart`
pub fn restart(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, vdev] = arguments else { return Err(Failure::Usage) };
    Ok(session.toolstack.restart_disk(domain, vdev)?)
}

fn table(disks: &[AttachedDisk]) -> Table<6> {
    let mut table = Table::new([
        ("Vdev", Align::Left),
        ("Disk", Align::Left),
        ("Mode", Align::Left),
        ("Frontend", Align::Left),
        ("Backend", Align::Left),
        ("BE-path", Align::Left),
    ]);
    for AttachedDisk { vdev, target, mode, status, path } in disks {
        table.add([
            vdev.clone(),
            target.clone(),
            mode.clone(),
            format!("{:?}", status.frontend),
            format!("{:?}", status.backend),
            path.clone(),
        ]);
    }
    table
}
