//! The operations, in the order in which they are shown, and how cheap each is to be.

/// An operation that is measured.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it is called in filters and in JSON.
    pub name: &'static str,
    /// What the guest calls it.
    pub row: &'static str,
    /// What it is called when speaking to people.
    pub title: &'static str,
    /// CPUs of the machine on which it is measured.
    pub cpus: u32,
    /// How many instructions it may take.
    pub bar: u64,
}

const fn one(name: &'static str, title: &'static str, bar: u64) -> Operation {
    Operation { name, row: name, title, cpus: 1, bar }
}

const fn on_two_cpus(
    name: &'static str,
    row: &'static str,
    title: &'static str,
    bar: u64,
) -> Operation {
    Operation { name, row, title, cpus: 2, bar }
}

/// All of them.
pub const OPERATIONS: [Operation; 22] = [
    one("null-hypercall", "null hypercall", 70),
    one("unknown-hypercall", "unknown hypercall", 70),
    one("get-features", "get_features: 8 bytes in and out", 150),
    one("multicall-8", "multicall of 8 null calls", 400),
    one("yield-alone", "yield, alone", 150),
    one("yield-two-domains", "yield, two domains: there and back", 900),
    one("send-pending", "event send, already pending", 120),
    one("send-masked", "event send, fresh and masked", 160),
    one("event-full", "event send → interrupt → handler → back", 250),
    one("ping-pong", "event ping-pong, two domains, one CPU", 1500),
    on_two_cpus("ping-pong-2-cpus", "ping-pong", "event ping-pong, two domains, two CPUs", 2500),
    one("self-sgi", "SGI to itself, full", 220),
    one("timer-running", "timer expiry → vector, running", 220),
    one("timer-wfi", "timer expiry → vector, from WFI", 700),
    one("gicd-typer", "GICD_TYPER read", 120),
    one("id-register", "trapped ID register read", 80),
    one("copy-1", "grant copy, 1 byte", 300),
    one("copy-4096", "grant copy, 4 KiB", 1000),
    one("copy-8x4096", "grant copy, 8 × 4 KiB in one call", 6500),
    one("map-unmap", "grant map + unmap", 700),
    one("decrease-populate", "decrease + populate one page", 900),
    one("taken-of-20m", "taken from 20 M of guest work", 300),
];

/// Those whose name contains one of the parts of `filter`, which commas separate.
pub fn matching(filter: Option<&str>) -> Vec<&'static Operation> {
    let wanted = |operation: &&Operation| {
        filter.is_none_or(|filter| filter.split(',').any(|part| operation.name.contains(part)))
    };
    OPERATIONS.iter().filter(wanted).collect()
}

/// All names, for people.
pub fn names() -> String {
    OPERATIONS.map(|operation| operation.name).join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), OPERATIONS.len());
    }

    #[test]
    fn filters_are_parts_of_names() {
        let names = |filter| -> Vec<_> { matching(Some(filter)).iter().map(|o| o.name).collect() };
        assert_eq!(names("gicd"), ["gicd-typer"]);
        assert_eq!(names("id-reg,typer"), ["gicd-typer", "id-register"]);
        assert!(names("nonsense").is_empty());
        assert_eq!(matching(None).len(), OPERATIONS.len());
    }
}
