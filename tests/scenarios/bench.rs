//! The bench guest measures every operation. What they cost is for `cargo xtask bench` to show.

use anyhow::{Result, ensure};
use tests::{Scenario, Shell};
use xtask::bench::{Laboratory, Request, operation};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("bench::every_operation", |shell, _| measure(shell, 1, ""))
        .on(|machine| machine.icount = true),
    Scenario::new("bench::beside_ports_and_grants", |shell, _| {
        measure(shell, 1, "ports=1000 grants=10000")
    })
    .on(|machine| machine.icount = true),
    Scenario::new("bench::on_two_cpus", |shell, _| measure(shell, 2, ""))
        .on(|machine| (machine.icount, machine.smp) = (true, 2)),
];

/// Samples of each operation: enough to be repeated.
const SAMPLES: u32 = 20;
/// What the monitor may take nothing for: it does nothing.
const MAY_BE_FREE: &str = "taken-of-20m";

fn measure(shell: &mut Shell, cpus: u32, load: &str) -> Result<()> {
    let before = shell.free_frames()?;
    let operations = operation::matching(None);
    let requests = Request::for_all(&operations, SAMPLES);
    let mut laboratory = Laboratory::new(shell.session());
    for request in requests.iter().filter(|request| request.cpus == cpus) {
        let rows = laboratory.measure(request, load)?;
        for operation in &request.operations {
            let row = rows.get(operation.row)?;
            let costs = row.min > 0 || operation.row == MAY_BE_FREE;
            ensure!(costs, "{} is said to take no instruction", operation.name);
            ensure!(row.min <= row.median && row.median <= row.p99, "{row:?}");
        }
    }
    shell.wait_until_gone("bench")?;
    shell.wait_until_gone("partner")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}
