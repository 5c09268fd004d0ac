//! `cargo xtask bench --growth`: whether an operation becomes dearer when there is more of
//! everything.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::aurochs::Laboratory;
use super::operation::Operation;
use super::row::Rows;
use super::{Equipment, Request, TIMEOUT, header, table};
use crate::options;
use crate::qemu::Machine;
use crate::session::Session;

/// MiB of the machine: enough for many small domains.
const MEMORY_MIB: u64 = 1024;
/// MiB of each of them, and what it does: nothing.
const IDLE: &str = "memory=2 cmdline=sleep=1000000";
/// The guest and its partner.
const MEASURERS: u32 = 2;
const PORTS: u32 = 1000;
const GRANTS: u32 = 10_000;

/// One column: what there is more of, and what the operations cost then.
#[derive(Debug)]
struct Column {
    title: String,
    rows: Rows,
}

/// Measures with little and with much of each, and prints the costs side by side.
///
/// # Errors
/// The machine or the guest fails.
pub(super) fn run(
    equipment: &Equipment,
    operations: &[&'static Operation],
    options: &options::Bench,
) -> Result<()> {
    let operations = operations.iter().copied().filter(|operation| operation.cpus == 1).collect();
    let request = Request { cpus: 1, samples: options.samples, operations };
    let columns = columns(equipment, &request, options.domains)?;
    if options.json {
        println!("{:#}", to_json(&request.operations, &columns)?);
        return Ok(());
    }
    let titles = columns.iter().map(|column| column.title.clone());
    let mut table = table::empty(std::iter::once("Operation".into()).chain(titles));
    for operation in &request.operations {
        let mut row = vec![operation.title.into()];
        for column in &columns {
            row.push(table::number(column.rows.get(operation.row)?.median));
        }
        table.add_row(row);
    }
    println!("{}\n{table}", header(equipment, options.samples));
    Ok(())
}

fn columns(equipment: &Equipment, request: &Request, domains: u32) -> Result<Vec<Column>> {
    let options = options::Machine {
        smp: request.cpus,
        icount: true,
        memory: Some(MEMORY_MIB),
        ..Default::default()
    };
    let machine = Machine::new(&equipment.qemu, &equipment.images, &options)?;
    let mut session = Session::start(machine, TIMEOUT, None)?;
    session.wait_until_ready()?;
    let mut laboratory = Laboratory::new(&mut session);
    let mut columns = Vec::new();
    for (title, load) in [
        ("few of each".to_string(), String::new()),
        (format!("{PORTS} ports"), format!("ports={PORTS}")),
        (format!("{GRANTS} grants"), format!("grants={GRANTS}")),
    ] {
        eprintln!("Measuring with {title}");
        columns.push(Column { title, rows: laboratory.measure(request, &load)? });
    }
    // Those that measure are domains, too.
    fill(&mut laboratory, domains.saturating_sub(MEASURERS))?;
    let title = format!("{domains} domains");
    eprintln!("Measuring with {title}");
    columns.push(Column { title, rows: laboratory.measure(request, "")? });
    session.power_off()?;
    Ok(columns)
}

/// Creates domains that sleep.
fn fill(laboratory: &mut Laboratory<'_>, domains: u32) -> Result<()> {
    for number in 0..domains {
        let created = laboratory.create(&format!("hello name=idle{number} {IDLE}"));
        created.with_context(|| format!("after {number} domains (fewer: --domains N)"))?;
    }
    Ok(())
}

fn to_json(operations: &[&Operation], columns: &[Column]) -> Result<Value> {
    let mut all = Map::new();
    for operation in operations {
        let mut costs = Map::new();
        for column in columns {
            let median = column.rows.get(operation.row)?.median;
            costs.insert(column.title.clone(), json!(median));
        }
        all.insert(operation.name.into(), Value::Object(costs));
    }
    Ok(Value::Object(all))
}
