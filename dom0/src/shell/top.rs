//! `xl top`: what domains use, between one look and the next.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use abi::{DomId, domctl::DomainInfo};
use embassy_futures::select::{Either, select};
use pv_guest_kernel::{hypercall, time};

use super::{
    arguments::{number, options, parse_seconds},
    command::{Command, Failure},
    report::{FRAMES_PER_MEBIBYTE, seconds, state_letters},
    session::Session,
    table::{Align, Table},
    terminal::{INTERRUPT, Terminal},
};
use crate::{
    control::Gone,
    toolstack::{Summary, Toolstack},
};

/// Between two looks, as in xentop.
const DELAY: Duration = Duration::from_secs(3);
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";
const QUIT: u8 = b'q';

/// The verb.
pub const COMMANDS: &[Command] = &[Command::new(
    "top",
    "[-b] [-n TIMES] [-d SECONDS]",
    "watch what domains use; q ends it; -b: as plain text, for scripts",
    |session, arguments| Box::pin(top(session, arguments)),
)];

/// `xl top`: tables of what domains used, until q or Ctrl-C is typed or there were enough.
///
/// # Errors
/// The monitor's.
async fn top(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let (batch, arguments): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|argument| argument == "-b");
    let batch = !batch.is_empty();
    let [times, delay] = options(&arguments, ["-n", "-d"])?;
    let times = times.map(|text| number(text, "a number of times")).transpose()?;
    let delay = delay.map_or(Ok(DELAY), |text| {
        let known = parse_seconds(text).filter(|delay| !delay.is_zero());
        known.ok_or_else(|| Failure::BadCall(format!("`{text}` is not a number of seconds")))
    })?;

    let cpus = hypercall::sysctl::phys_info()?.cpus;
    let mut before = Look::take(&session.toolstack)?;
    if !batch {
        show(session, &before.table(&before), cpus, batch);
    }
    let mut shown = 0;
    while times.is_none_or(|times: u32| shown < times) {
        if let Either::Second(()) = select(time::sleep(delay), quit(&mut session.terminal)).await {
            return Ok(());
        }
        let now = Look::take(&session.toolstack)?;
        show(session, &now.table(&before), cpus, batch);
        session.terminal.flush().await?;
        before = now;
        shown += 1;
    }
    Ok(())
}

fn show(session: &mut Session, table: &Table<9>, cpus: u32, batch: bool) {
    if !batch {
        write!(session.terminal, "{CLEAR_SCREEN}{cpus} CPUs; q ends this\n\n");
    }
    session.show(table);
}

async fn quit(terminal: &mut Terminal) {
    while !matches!(terminal.read().await, Ok(QUIT | INTERRUPT) | Err(Gone)) {}
}

/// All domains at one time.
#[derive(Debug)]
struct Look {
    at: Duration,
    domains: Vec<Summary>,
}

impl Look {
    fn take(toolstack: &Toolstack) -> Result<Look, Failure> {
        Ok(Look { domains: toolstack.list()?, at: time::now() })
    }

    fn of(&self, domain: DomId) -> Option<&DomainInfo> {
        self.domains.iter().map(|other| &other.info).find(|info| info.domain == domain)
    }

    /// What domains used since an earlier look; those that were not there then, since ever.
    fn table(&self, before: &Look) -> Table<9> {
        let mut table = Table::new([
            ("Name", Align::Left),
            ("ID", Align::Right),
            ("State", Align::Left),
            ("Time(s)", Align::Right),
            ("CPU(%)", Align::Right),
            ("Mem(MiB)", Align::Right),
            ("VCPUs", Align::Right),
            ("Events/s", Align::Right),
            ("Hypercalls/s", Align::Right),
        ]);
        let passed = self.at.saturating_sub(before.at);
        for Summary { name, info } in &self.domains {
            let none = DomainInfo::default();
            let earlier = before.of(info.domain).unwrap_or(&none);
            let rate = |now: u64, then: u64| per_second(now.saturating_sub(then), passed);
            // Nanoseconds for each second: a percent is 10^7 of them.
            let tenths = rate(info.cpu_time, earlier.cpu_time).saturating_add(500_000) / 1_000_000;
            table.add([
                name.clone(),
                info.domain.0.to_string(),
                state_letters(info),
                seconds(info.cpu_time),
                format!("{}.{}", tenths / 10, tenths % 10),
                (info.frames / FRAMES_PER_MEBIBYTE).to_string(),
                info.online_vcpus.to_string(),
                rate(info.exits.events, earlier.exits.events).to_string(),
                rate(info.exits.hypercalls, earlier.exits.hypercalls).to_string(),
            ]);
        }
        table
    }
}

/// How much that is in a second. Zero if no time has passed.
fn per_second(count: u64, passed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000_000;
    rate.checked_div(passed.as_nanos()).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use abi::domctl::{DomainState, ExitCounts};

    use super::super::table::Show;
    use super::*;

    fn look(at: u64, cpu_time: u64, calls: u64) -> Look {
        let info = DomainInfo {
            domain: DomId(1),
            state: DomainState::RUNNING.bits(),
            frames: 4096,
            online_vcpus: 2,
            cpu_time,
            exits: ExitCounts { hypercalls: calls, events: calls / 2, ..ExitCounts::default() },
            ..DomainInfo::default()
        };
        Look {
            at: Duration::from_millis(at),
            domains: [Summary { name: "web".into(), info }].into(),
        }
    }

    #[test]
    fn rates_are_those_since_the_last_look() {
        let (before, now) = (look(1000, 500_000_000, 100), look(3000, 1_957_800_000, 2100));
        assert_eq!(
            now.table(&before).text(),
            "Name  ID  State   Time(s)  CPU(%)  Mem(MiB)  VCPUs  Events/s  Hypercalls/s\n\
             web    1  r-----      1.9    72.9        16      2       500          1000\n"
        );
    }

    #[test]
    fn without_time_nothing_is_used() {
        let now = look(1000, 500_000_000, 100);
        let table = now.table(&now).text();
        assert!(table.contains(" 0.0 "), "{table}");
        assert_eq!(per_second(5, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }
}
