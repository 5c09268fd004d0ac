//! `xl network-list`, `network-attach` and `network-detach`.

use alloc::{
    format,
    string::{String, ToString},
};

use super::{
    Session,
    command::{Failure, number},
    table::{Align, Table},
};
use crate::toolstack::{Interface, vif::VifSpec};

/// `xl network-list`
pub async fn list(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain] = arguments else { return Err(Failure::Usage) };
    let interfaces = session.toolstack.interfaces(domain).await?;
    session.show(&table(&interfaces));
    for Interface { path, error, .. } in &interfaces {
        if let Some(error) = error {
            session.note(format_args!("{path}: {error}"));
        }
    }
    Ok(())
}

/// `xl network-attach`
pub async fn attach(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (domain, settings) = arguments.split_first().ok_or(Failure::Usage)?;
    let vif = VifSpec::parse(&settings.join(","))?;
    let number = session.toolstack.attach_interface(domain, &vif).await?;
    writeln!(session.terminal, "{domain} has interface {number}");
    Ok(())
}

/// `xl network-detach`
pub async fn detach(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, interface] = arguments else { return Err(Failure::Usage) };
    let interface = number(interface, "the number of an interface")?;
    Ok(session.toolstack.detach_interface(domain, interface).await?)
}

fn table(interfaces: &[Interface]) -> Table<5> {
    let mut table = Table::new([
        ("Idx", Align::Right),
        ("Mac Addr.", Align::Left),
        ("Frontend", Align::Left),
        ("Backend", Align::Left),
        ("BE-path", Align::Left),
    ]);
    for Interface { number, address, frontend, backend, path, .. } in interfaces {
        table.add([
            number.to_string(),
            address.clone(),
            format!("{frontend:?}"),
            format!("{backend:?}"),
            path.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use abi::xenbus::State;

    use super::super::table::Show;
    use super::*;

    #[test]
    fn it_shows_who_waits_for_whom() {
        let interface = Interface {
            number: 0,
            address: "00:16:3e:01:02:03".into(),
            frontend: State::Initialising,
            backend: State::InitWait,
            path: "/local/domain/0/backend/vif/1/0".into(),
            error: None,
        };
        assert_eq!(
            table(&[interface]).text(),
            "Idx  Mac Addr.          Frontend      Backend   BE-path\n  \
             0  00:16:3e:01:02:03  Initialising  InitWait  /local/domain/0/backend/vif/1/0\n"
        );
    }
}
