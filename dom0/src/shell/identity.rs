//! `xl rename`, `domid`, `domname` and `uptime`.

use alloc::string::{String, ToString};

use super::{
    Session,
    command::{Failure, number},
    table::{Align, Table},
    xl,
};
use crate::toolstack::clock;

/// `xl rename`
pub async fn rename(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, name] = arguments else { return Err(Failure::Usage) };
    Ok(session.toolstack.rename(domain, name).await?)
}

/// `xl domid`
pub fn domid(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [name] = arguments else { return Err(Failure::Usage) };
    let domain = session.toolstack.find(name)?.info.domain;
    writeln!(session.terminal, "{}", domain.0);
    Ok(())
}

/// `xl domname`
pub fn domname(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [id] = arguments else { return Err(Failure::Usage) };
    let _: u16 = number(id, "the number of a domain")?;
    let name = session.toolstack.find(id)?.name;
    writeln!(session.terminal, "{name}");
    Ok(())
}

/// `xl uptime`
pub fn uptime(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let mut table =
        Table::new([("Name", Align::Left), ("ID", Align::Right), ("Uptime", Align::Right)]);
    for domain in xl::domains(session, arguments)? {
        let uptime = session.toolstack.uptime(&domain)?;
        table.add([domain.name, domain.info.domain.0.to_string(), clock(uptime)]);
    }
    session.show(&table);
    Ok(())
}
