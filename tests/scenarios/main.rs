//! Scenarios: each boots the whole machine, does something at dom0's prompt or from outside, and
//! looks at what came of it. They run side by side; a failed one shows its whole console.

mod bad_input;
mod bench;
mod block;
mod boot;
mod conformance;
mod control;
mod disks;
mod entropy;
mod ext4;
mod hostile;
mod lifecycle;
mod linux;
mod network;
mod new_driver;
mod peer;
mod scheduler;
mod script;
mod smp;
mod store;
mod toolstack;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tests::Scenario;
use xtask::build::{self, Images};
use xtask::setup::{self, Qemu, Tool};

/// What all scenarios share.
struct Equipment {
    qemu: Qemu,
    images: Images,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let equipment = match equip() {
        Ok(equipment) => Arc::new(equipment),
        Err(reason) => {
            eprintln!("error: {reason:#}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("QEMU {}", equipment.qemu.version);
    let groups = [
        boot::SCENARIOS,
        disks::SCENARIOS,
        block::SCENARIOS,
        ext4::SCENARIOS,
        lifecycle::SCENARIOS,
        linux::SCENARIOS,
        network::SCENARIOS,
        scheduler::SCENARIOS,
        store::SCENARIOS,
        entropy::SCENARIOS,
        bad_input::SCENARIOS,
        hostile::SCENARIOS,
        bench::SCENARIOS,
        smp::SCENARIOS,
        conformance::SCENARIOS,
        control::SCENARIOS,
        toolstack::SCENARIOS,
    ];
    let mut trials: Vec<Trial> =
        groups.concat().into_iter().map(|scenario| trial(scenario, &equipment)).collect();
    trials.extend(peer::trials(&equipment));
    trials.extend(script::trials());
    trials.extend(new_driver::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn equip() -> anyhow::Result<Equipment> {
    setup::ensure(Tool::RUN)?;
    Ok(Equipment { qemu: Qemu::find()?, images: build::build()? })
}

fn trial(scenario: Scenario, equipment: &Arc<Equipment>) -> Trial {
    let equipment = Arc::clone(equipment);
    Trial::test(scenario.name(), move || {
        scenario
            .run(&equipment.qemu, &equipment.images)
            .map_err(|error| Failed::from(error.to_string()))
    })
}
