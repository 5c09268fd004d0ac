//! What `xl` shows of domains and of the machine, as text.

use alloc::{
    format,
    string::{String, ToString},
};

use abi::{
    domctl::{DomainInfo, DomainState},
    sched::ShutdownReason,
    sysctl::PhysInfo,
};

use super::table::{Align, Record, Table};
use crate::toolstack::{DiskUse, Summary};

/// 4 KiB frames in a MiB.
pub const FRAMES_PER_MEBIBYTE: u64 = 256;

/// The table of `xl list`.
pub fn list(domains: &[Summary]) -> Table<6> {
    let mut table = Table::new([
        ("Name", Align::Left),
        ("ID", Align::Right),
        ("Mem", Align::Right),
        ("VCPUs", Align::Right),
        ("State", Align::Left),
        ("Time(s)", Align::Right),
    ]);
    for Summary { name, info } in domains {
        table.add([
            name.clone(),
            info.domain.0.to_string(),
            (info.frames / FRAMES_PER_MEBIBYTE).to_string(),
            info.online_vcpus.to_string(),
            state_letters(info),
            seconds(info.cpu_time),
        ]);
    }
    table
}

/// Nanoseconds as seconds with tenths.
pub fn seconds(nanoseconds: u64) -> String {
    let tenths = nanoseconds / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// xl's letters: running, blocked, paused, shut down, crashed, dying.
pub fn state_letters(info: &DomainInfo) -> String {
    let state = DomainState::from_bits_retain(info.state);
    let crashed = state.shutdown_reason() == Some(ShutdownReason::Crash.raw());
    let letters = [
        (state.contains(DomainState::RUNNING), 'r'),
        (state.contains(DomainState::BLOCKED), 'b'),
        (state.contains(DomainState::PAUSED), 'p'),
        (state.contains(DomainState::SHUTDOWN) && !crashed, 's'),
        (crashed, 'c'),
        (state.contains(DomainState::DYING), 'd'),
    ];
    letters.map(|(is, letter)| if is { letter } else { '-' }).iter().collect()
}

/// The table of `xl counters`: what left each domain's own code, by cause, and how long it ran,
/// with what the monitor did meanwhile.
pub fn counters(domains: &[Summary]) -> Table<11> {
    let mut table = Table::new([
        ("Name", Align::Left),
        ("ID", Align::Right),
        ("Hypercalls", Align::Right),
        ("MMIO", Align::Right),
        ("Sysregs", Align::Right),
        ("Firmware", Align::Right),
        ("Waits", Align::Right),
        ("Interrupts", Align::Right),
        ("Events", Align::Right),
        ("FP", Align::Right),
        ("Time(us)", Align::Right),
    ]);
    for Summary { name, info } in domains {
        let exits = &info.exits;
        table.add([
            name.clone(),
            info.domain.0.to_string(),
            exits.hypercalls.to_string(),
            exits.mmio.to_string(),
            exits.system_registers.to_string(),
            exits.firmware_calls.to_string(),
            exits.waits.to_string(),
            exits.interrupts.to_string(),
            exits.events.to_string(),
            exits.floating_point.to_string(),
            (info.cpu_time / 1000).to_string(),
        ]);
    }
    table
}

/// The lines of `xl info`.
pub fn info(version: &str, machine: &PhysInfo, disks: &[DiskUse]) -> Record {
    let mut record = Record::default();
    record.add("monitor", version);
    record.add("nr_cpus", machine.cpus);
    record.add("counter_khz", machine.counter_hertz / 1000);
    record.add("total_memory", memory(machine.total_frames));
    record.add("free_memory", memory(machine.free_frames));
    record.add("nr_domains", machine.domains);
    record.add("ipis", machine.ipis);
    for disk in disks {
        record.add(&disk.name, disk_line(disk));
    }
    record
}

fn memory(frames: u64) -> String {
    format!("{} MiB ({frames} frames)", frames / FRAMES_PER_MEBIBYTE)
}

fn disk_line(disk: &DiskUse) -> String {
    let users = match disk.users.as_slice() {
        [] => "free".to_string(),
        users => format!("used by {}", users.join(", ")),
    };
    format!("{} KiB, {users}", disk.bytes / 1024)
}

#[cfg(test)]
mod tests {
    use abi::{DomId, domctl::ExitCounts};

    use super::super::table::Show;
    use super::*;

    fn summary(name: &str, id: u16, state: u32) -> Summary {
        let info = DomainInfo {
            domain: DomId(id),
            state,
            frames: 4098,
            online_vcpus: 1,
            cpu_time: 12_345_678_901,
            exits: ExitCounts { hypercalls: 1_000_000, waits: 7, ..ExitCounts::default() },
            ..DomainInfo::default()
        };
        Summary { name: name.to_string(), info }
    }

    #[test]
    fn domains_are_listed_as_by_xl() {
        let running = DomainState::RUNNING.bits();
        let crashed = DomainState::SHUTDOWN.bits() | (ShutdownReason::Crash.raw() << 16);
        assert_eq!(
            list(&[summary("dom0", 0, running), summary("hash", 12, crashed)]).text(),
            "Name  ID  Mem  VCPUs  State   Time(s)\n\
             dom0   0   16      1  r-----     12.3\n\
             hash  12   16      1  ----c-     12.3\n"
        );
    }

    #[test]
    fn every_state_has_its_letter() {
        let letters = |state: DomainState| state_letters(&summary("a", 1, state.bits()).info);
        assert_eq!(letters(DomainState::empty()), "------");
        assert_eq!(letters(DomainState::BLOCKED | DomainState::PAUSED), "-bp---");
        assert_eq!(letters(DomainState::SHUTDOWN | DomainState::DYING), "---s-d");
    }

    #[test]
    fn counters_are_under_their_headings() {
        let text = counters(&[summary("hash", 1, 0)]).text();
        let mut lines = text.lines();
        let heading = lines.next().unwrap();
        let row = lines.next().unwrap();
        let end = heading.find("Hypercalls").unwrap() + "Hypercalls".len();
        assert!(row[..end].ends_with(" 1000000"), "{text}");
        let end = heading.find("Waits").unwrap() + "Waits".len();
        assert!(row[..end].ends_with(" 7"), "{text}");
    }

    #[test]
    fn the_machine_is_described() {
        let machine = PhysInfo {
            cpus: 2,
            counter_hertz: 62_500_000,
            total_frames: 262_144,
            free_frames: 1000,
            domains: 3,
            ..PhysInfo::default()
        };
        let disk = DiskUse { name: "disk0".into(), bytes: 1 << 26, users: vec!["hash".into()] };
        let text = info("Aurochs", &machine, &[disk]).text();
        assert!(text.contains("total_memory           : 1024 MiB (262144 frames)\n"), "{text}");
        assert!(text.contains("free_memory            : 3 MiB (1000 frames)\n"), "{text}");
        assert!(text.contains("disk0                  : 65536 KiB, used by hash\n"), "{text}");
    }
}
