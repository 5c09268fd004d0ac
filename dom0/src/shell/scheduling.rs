//! The verbs of `xl` about vCPUs: where they run, how many, and who gets how much.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};

use abi::{VcpuId, domctl::SchedulerOp};

use super::{
    arguments::{domains, number, options},
    command::{Command, Failure},
    report::seconds,
    session::Session,
    table::{Align, Table},
};
use crate::toolstack::{Summary, Vcpu, Vcpus, cpus::Cpus};

/// The verbs.
pub const COMMANDS: &[Command] = &[
    Command::new(
        "vcpu-list",
        "[DOMAIN]",
        "show vCPUs, and the CPUs on which they run and may run",
        |session, arguments| Box::pin(async { list_vcpus(session, arguments) }),
    )
    .for_programs(),
    Command::new(
        "vcpu-pin",
        "DOMAIN VCPU|all CPUS",
        "set on which CPUs a vCPU may run: all, or as in 0-3,^2",
        |session, arguments| Box::pin(async { pin(session, arguments) }),
    ),
    Command::new(
        "vcpu-set",
        "DOMAIN VCPUS",
        "have a domain use so many of its vCPUs",
        |session, arguments| Box::pin(set_vcpus(session, arguments)),
    ),
    Command::new(
        "sched-credit2",
        "[-d DOMAIN [-w WEIGHT] [-c CAP]]",
        "show or set domains' shares of the CPUs",
        |session, arguments| Box::pin(async { share(session, arguments) }),
    )
    .for_programs(),
];

fn list_vcpus(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let mut vcpus = Vec::new();
    for domain in domains(session, arguments)? {
        vcpus.extend(session.toolstack.vcpus(&domain)?);
    }
    session.show(&vcpu_table(&vcpus));
    Ok(())
}

fn pin(session: &Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, vcpu, cpus] = arguments else { return Err(Failure::Usage) };
    let vcpus = match vcpu.as_str() {
        "all" => Vcpus::All,
        text => Vcpus::One(VcpuId(number(text, "the number of a vCPU, or all")?)),
    };
    let cpus = Cpus::parse(cpus).map_err(|error| Failure::BadCall(error.to_string()))?;
    Ok(session.toolstack.pin(domain, vcpus, cpus)?)
}

async fn set_vcpus(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, count] = arguments else { return Err(Failure::Usage) };
    let online = number(count, "a number of vCPUs")?;
    Ok(session.toolstack.set_vcpus(domain, online).await?)
}

fn share(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, weight, cap] = options(arguments, ["-d", "-w", "-c"])?;
    let weight = weight.map(read_weight).transpose()?;
    let cap = cap.map(|text| number(text, "a cap: percent of a CPU, 0 for none")).transpose()?;
    match (domain, weight, cap) {
        (Some(domain), None, None) => {
            let domain = session.toolstack.find(domain)?;
            show_shares(session, &[domain])
        }
        (Some(domain), weight, cap) => Ok(session.toolstack.set_share(domain, weight, cap)?),
        (None, None, None) => {
            let domains = session.toolstack.list()?;
            show_shares(session, &domains)
        }
        (None, ..) => Err(Failure::Usage),
    }
}

fn read_weight(text: &str) -> Result<u16, Failure> {
    const WHAT: &str = "a weight from 1 to 65535";
    match number(text, WHAT)? {
        0 => Err(Failure::BadCall(format!("`{text}` is not {WHAT}"))),
        weight => Ok(weight),
    }
}

fn show_shares(session: &mut Session, domains: &[Summary]) -> Result<(), Failure> {
    let shares: Result<Vec<_>, _> =
        domains.iter().map(|domain| session.toolstack.share(domain.info.domain)).collect();
    session.show(&share_table(domains, &shares?));
    Ok(())
}

fn share_table(domains: &[Summary], shares: &[SchedulerOp]) -> Table<4> {
    let mut table = Table::new([
        ("Name", Align::Left),
        ("ID", Align::Right),
        ("Weight", Align::Right),
        ("Cap", Align::Right),
    ]);
    for (Summary { name, info }, share) in domains.iter().zip(shares) {
        let (weight, cap) = (share.weight.to_string(), share.cap.to_string());
        table.add([name.clone(), info.domain.0.to_string(), weight, cap]);
    }
    table
}

/// xl's table: state is `r` for running, `b` for blocked, `p` for offline.
fn vcpu_table(vcpus: &[Vcpu]) -> Table<7> {
    let mut table = Table::new([
        ("Name", Align::Left),
        ("ID", Align::Right),
        ("VCPU", Align::Right),
        ("CPU", Align::Right),
        ("State", Align::Left),
        ("Time(s)", Align::Right),
        ("Affinity (Hard / Soft)", Align::Left),
    ]);
    for Vcpu { name, domain, state, affinity } in vcpus {
        let online = state.online != 0;
        let letter = |is: u8, letter| if online && is != 0 { letter } else { '-' };
        table.add([
            name.clone(),
            domain.0.to_string(),
            state.vcpu.0.to_string(),
            if online { state.cpu.to_string() } else { "-".into() },
            [
                letter(state.running, 'r'),
                letter(state.blocked, 'b'),
                if online { '-' } else { 'p' },
            ]
            .iter()
            .collect(),
            seconds(state.cpu_time),
            format!("{affinity} / all"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use abi::{
        DomId,
        domctl::{DomainInfo, VcpuState},
    };

    use super::super::table::Show;
    use super::*;

    #[test]
    fn vcpus_are_listed_as_by_xl() {
        let vcpu = |vcpu, online, running, affinity| Vcpu {
            name: "web".into(),
            domain: DomId(3),
            state: VcpuState {
                vcpu: VcpuId(vcpu),
                cpu: 2,
                cpu_time: 1_250_000_000,
                online,
                blocked: 1 - running,
                running,
                ..VcpuState::default()
            },
            affinity,
        };
        let pinned = Cpus::from_bits(0b101);
        assert_eq!(
            vcpu_table(&[
                vcpu(0, 1, 1, Cpus::ALL),
                vcpu(1, 1, 0, pinned),
                vcpu(2, 0, 0, Cpus::ALL)
            ])
            .text(),
            "Name  ID  VCPU  CPU  State  Time(s)  Affinity (Hard / Soft)\n\
             web    3     0    2  r--        1.2  all / all\n\
             web    3     1    2  -b-        1.2  0,2 / all\n\
             web    3     2    -  --p        1.2  all / all\n"
        );
    }

    #[test]
    fn shares_are_listed_as_by_xl() {
        let info = DomainInfo { domain: DomId(3), ..DomainInfo::default() };
        let share = SchedulerOp { weight: 512, cap: 50, ..SchedulerOp::default() };
        assert_eq!(
            share_table(&[Summary { name: "web".into(), info }], &[share]).text(),
            "Name  ID  Weight  Cap\nweb    3     512   50\n"
        );
    }

    #[test]
    fn a_weight_of_zero_is_refused() {
        assert_eq!(read_weight("65535"), Ok(65535));
        for wrong in ["0", "65536", "-1", "x"] {
            assert!(read_weight(wrong).is_err(), "{wrong}");
        }
    }
}
