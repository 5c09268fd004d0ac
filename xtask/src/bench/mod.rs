//! `cargo xtask bench`: what each operation costs, in instructions.
//!
//! The bench guest runs under the ruler, on Aurochs ([`aurochs`]) and, if asked for, on Debian's
//! Xen ([`xen`]); [`growth`] runs it beside many domains, ports and grants. It prints one line for
//! each operation ([`row`]); [`operation`] has the operations and their bars, [`table`] what a
//! person sees. [`io`] measures disks instead, [`linux`] Linux as a guest.

mod aurochs;
mod counters;
mod growth;
mod io;
mod linux;
pub mod operation;
mod request;
mod row;
mod table;
mod xen;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::build::{self, Images};
use crate::options;
use crate::qemu::Virt;
use crate::setup::{self, Qemu, Tool};

pub use aurochs::Laboratory;
pub use counters::exits;
use operation::Operation;
pub use request::Request;
pub use row::{Row, Rows};
use table::Measured;
pub use xen::measure as measure_on_xen;

/// What one machine may take: a hundred times what it does take on a fast host.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What all runs share.
#[derive(Debug)]
struct Equipment {
    qemu: Qemu,
    images: Images,
    virt: Virt,
}

/// Builds, measures and prints.
///
/// # Errors
/// A tool is missing, the build fails, or an operation could not be measured. A bar that is missed
/// is no error.
pub fn run(options: &options::Bench) -> Result<()> {
    let operations = operation::matching(options.only.as_deref());
    let filter = options.only.as_deref().unwrap_or_default();
    ensure!(!operations.is_empty(), "nothing matches `{filter}`: {}", operation::names());
    setup::ensure(Tool::RUN)?;
    let equipment = Equipment { qemu: Qemu::find()?, images: build::build()?, virt: Virt::load() };
    match options.what {
        Some(options::Measurement::Io) if options.peer => {
            bail!("the guest of `bench io` is not measured on Xen: see `bench linux --peer`")
        }
        Some(options::Measurement::Io) => return io::run(&equipment, options),
        Some(options::Measurement::Linux) => return linux::run(&equipment, options),
        None => {}
    }
    if options.growth {
        return growth::run(&equipment, &operations, options);
    }
    let measured = measure(&equipment, &operations, options)?;
    if options.json {
        let ruler = &equipment.virt.ruler;
        let version = equipment.qemu.version.to_string();
        let how = json!({ "qemu": version, "cpu": ruler.cpu, "icount": ruler.icount });
        println!("{:#}", json!({ "ruler": how, "operations": table::json(&measured) }));
    } else {
        println!("{}\n{}", header(&equipment, options.samples), table::show(&measured));
    }
    Ok(())
}

fn measure(
    equipment: &Equipment,
    operations: &[&'static Operation],
    options: &options::Bench,
) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for request in Request::for_all(operations, options.samples) {
        let machine = request.machine();
        eprintln!("Measuring on Aurochs {machine}");
        let ours = aurochs::measure(equipment, &request)
            .with_context(|| format!("on Aurochs {machine}"))?;
        let theirs = if options.peer {
            eprintln!("Measuring on Xen {machine}");
            let rows = measure_on_xen(&equipment.qemu, &equipment.images, &request);
            Some(rows.with_context(|| format!("on Xen {machine}"))?)
        } else {
            None
        };
        for operation in request.operations {
            let ours = ours.get(operation.row)?.clone();
            let theirs =
                theirs.as_ref().map(|rows| rows.get(operation.row).cloned()).transpose()?;
            measured.push(Measured { operation, ours, theirs });
        }
    }
    measured.sort_by_key(|one| operations.iter().position(|other| *other == one.operation));
    Ok(measured)
}

/// How the figures were taken.
fn header(equipment: &Equipment, samples: u32) -> String {
    let ruler = &equipment.virt.ruler;
    format!(
        "Instructions at EL1 and EL2 together, median of {samples} samples, by the ruler:\n\
         QEMU {}, -cpu {}, -icount {}",
        equipment.qemu.version, ruler.cpu, ruler.icount
    )
}
