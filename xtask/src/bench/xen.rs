//! The bench guest on Debian's Xen: two domains that Xen makes itself when it boots.

use anyhow::{Context, Result, ensure};

use super::row::Rows;
use super::{Request, TIMEOUT};
use crate::build::Images;
use crate::peer::{Guest, Machine};
use crate::setup::{Qemu, Version};

/// Older ones let a CPU go on under the ruler until it waits. Xen's CPUs spin when they wait for each
/// other, and so it never comes to its end.
const FAIR_TO_CPUS: Version = Version(8, 1, 0);
const MEMORY_MIB: u64 = 1024;
const GUEST_KIB: u32 = 32 << 10;

/// Measures.
///
/// # Errors
/// Xen cannot be fetched, QEMU or the guest fails, or QEMU is too old for several CPUs.
pub fn measure(qemu: &Qemu, images: &Images, request: &Request) -> Result<Rows> {
    ensure!(
        request.cpus == 1 || qemu.version >= FAIR_TO_CPUS,
        "Xen does not boot {} under the ruler of QEMU {}: use {FAIR_TO_CPUS} or newer, or choose \
         operations with --only",
        request.machine(),
        qemu.version
    );
    let guest = |line: String| Guest::ours(images, "bench", &line, GUEST_KIB);
    let guests = vec![guest(request.command_line(2))?, guest(Request::partner_command_line(1))?];
    let machine =
        Machine { cpus: request.cpus, memory_mib: MEMORY_MIB, ..Machine::dom0less(guests) };
    let mut console = machine.boot(qemu, "bench", TIMEOUT)?;
    console.wait_for("the bench guest's end", Rows::ended)?;
    Rows::parse(&console.text()).context(console.place())
}
