//! The verbs of `xl` that say which domains there are and what they are called.

use alloc::{
    boxed::Box,
    string::{String, ToString},
};

use super::{
    arguments::{domains, number, take_flags},
    command::{Command, Failure},
    long::Long,
    report,
    session::Session,
    table::{Align, Table},
};
use crate::toolstack::{Summary, clock};

/// The verbs.
pub const COMMANDS: &[Command] = &[
    Command::new(
        "list",
        "[-l] [DOMAIN]",
        "show the domains; -l, --long: all that is known of them, as JSON",
        |session, arguments| Box::pin(async { list(session, arguments) }),
    )
    .for_programs(),
    Command::new("rename", "DOMAIN NAME", "give a domain another name", |session, arguments| {
        Box::pin(rename(session, arguments))
    }),
    Command::new("domid", "DOMAIN", "show the number of a domain", |session, arguments| {
        Box::pin(async { domid(session, arguments) })
    }),
    Command::new(
        "domname",
        "DOMAIN",
        "show the name of the domain with this number",
        |session, arguments| Box::pin(async { domname(session, arguments) }),
    ),
    Command::new(
        "uptime",
        "[DOMAIN]",
        "show how long domains have been there",
        |session, arguments| Box::pin(async { uptime(session, arguments) }),
    )
    .for_programs(),
];

fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let ([short, long], arguments) = take_flags(arguments, ["-l", "--long"])?;
    let domains = domains(session, &arguments)?;
    if !short && !long {
        session.show(&report::list(&domains));
        return Ok(());
    }
    let toolstack = &session.toolstack;
    let known = |domain: Summary| {
        let configuration = toolstack.configuration(&domain);
        (domain, configuration)
    };
    let long = Long(domains.into_iter().map(known).collect());
    session.show(&long);
    Ok(())
}

async fn rename(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, name] = arguments else { return Err(Failure::Usage) };
    Ok(session.toolstack.rename(domain, name).await?)
}

fn domid(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [name] = arguments else { return Err(Failure::Usage) };
    let domain = session.toolstack.find(name)?.info.domain;
    writeln!(session.terminal, "{}", domain.0);
    Ok(())
}

fn domname(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [id] = arguments else { return Err(Failure::Usage) };
    let _: u16 = number(id, "the number of a domain")?;
    let name = session.toolstack.find(id)?.name;
    writeln!(session.terminal, "{name}");
    Ok(())
}

fn uptime(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let mut table =
        Table::new([("Name", Align::Left), ("ID", Align::Right), ("Uptime", Align::Right)]);
    for domain in domains(session, arguments)? {
        let uptime = session.toolstack.uptime(&domain)?;
        table.add([domain.name, domain.info.domain.0.to_string(), clock(uptime)]);
    }
    session.show(&table);
    Ok(())
}
