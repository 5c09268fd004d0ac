//! The monitor's binary: boot, from the device tree to the first instruction of dom0.

#![no_std]
#![no_main]

use hv::allocator::Monitor;
use hv::allocator::ram::RamRange;
use hv::allocator::scheduler::{CpuSet, SLICE_MILLISECONDS};
use hv::dispatcher::{self, KICK, OwnInterrupts};
use hv::dom0;
use hv::interpreter::system_register;
use hv::machine::boot;
use hv::machine::boot_heap::BootHeap;
use hv::machine::description::Machine;
use hv::machine::{gic, percpu, power, timer};
use hv::types::{CpuId, Mfn, Ticks};
use spin::Once;

#[global_allocator]
static HEAP: BootHeap = BootHeap::new();

/// The machine, for CPUs that start later.
static MACHINE: Once<Machine> = Once::new();

/// Called by the boot code on the first CPU, with the device tree's address.
#[unsafe(no_mangle)]
extern "C" fn monitor_main(dtb: u64) -> ! {
    // SAFETY: called once, on the boot CPU, with the address that the loader gave.
    let machine = match unsafe { boot::initialise(dtb) } {
        Ok(machine) => MACHINE.call_once(|| machine),
        Err(error) => panic!("this machine cannot be used: {error}"),
    };
    log::info!(
        "Aurochs {}: {} CPUs, {} MiB of RAM",
        env!("CARGO_PKG_VERSION"),
        machine.cpus.len(),
        machine.memory.iter().map(|range| (range.end - range.start) >> 20).sum::<u64>(),
    );
    system_register::note_cpu();
    take_interrupts(machine);
    dispatcher::set_command_line(machine.bootargs);
    start_cpus(machine);
    prepare(machine, &mut dispatcher::monitor());
    HEAP.close();
    dispatcher::enter_first()
}

/// Takes stock of RAM and builds dom0.
fn prepare(machine: &Machine, monitor: &mut Monitor) {
    if monitor.frames.fill(&mut free_ranges(machine)).is_none() {
        panic!("no RAM is left for domains: give the machine more");
    }
    if let Err(error) = dom0::build(monitor, machine) {
        panic!("{error}");
    }
    dom0::release_modules(monitor, machine);
    log::info!("{} MiB free for domains", monitor.frames.free() >> 8);
}

/// Takes the monitor's own interrupts.
fn take_interrupts(machine: &Machine) {
    dispatcher::set_own_interrupts(OwnInterrupts {
        timer: machine.timer.hypervisor,
        virtual_timer: machine.timer.virtual_,
        physical_timer: machine.timer.physical,
        maintenance: machine.maintenance,
        uart: machine.uart.interrupt,
    });
    enable_interrupts();
    if let Err(error) = gic::enable_spi(machine.uart.interrupt, percpu::this_cpu()) {
        log::error!("the console has no input: {error}");
    }
}

/// Starts the other CPUs, and waits for them: there is no domain yet, so that dom0 finds a machine
/// that does not grow any more.
fn start_cpus(machine: &Machine) {
    dispatcher::monitor().scheduler.start_cpu(percpu::this_cpu(), slice());
    let mut expected = dispatcher::monitor().scheduler.online();
    for cpu in (1..machine.cpus.len()).map(CpuId) {
        match boot::start_cpu(machine, cpu, secondary_main) {
            Ok(()) => expected.insert(cpu),
            Err(error) => log::error!("CPU {} was not started: {error}", cpu.0),
        }
    }
    for cpu in missing_after_wait(expected) {
        log::error!("CPU {} did not come in {PATIENCE_SECONDS} s", cpu.0);
    }
}

/// How long CPUs may take to come: under QEMU they are threads, and the host may be busy.
const PATIENCE_SECONDS: u64 = 10;

/// Waits until CPUs take part. Returns those that did not come in time.
fn missing_after_wait(expected: CpuSet) -> CpuSet {
    let after = |ticks| Ticks(timer::now().0.saturating_add(ticks));
    let end = after(timer::frequency() * PATIENCE_SECONDS);
    loop {
        let missing = expected.without(dispatcher::monitor().scheduler.online());
        if missing.is_empty() || timer::now() > end {
            timer::set_deadline(Ticks::NEVER);
            return missing;
        }
        timer::set_deadline(after(timer::from_nanoseconds(100_000).0));
        power::wait_for_interrupt();
    }
}

/// Where the other CPUs begin.
extern "C" fn secondary_main() -> ! {
    let cpu = percpu::this_cpu();
    if let Some(machine) = MACHINE.get() {
        if let Err(error) = boot::initialise_cpu(machine) {
            panic!("CPU {} cannot be used: {error}", cpu.0);
        }
        enable_interrupts();
        dispatcher::monitor().scheduler.start_cpu(cpu, slice());
    }
    dispatcher::enter_first()
}

/// Lets other CPUs interrupt this one.
fn enable_interrupts() {
    if let Err(error) = gic::enable_ppi(KICK) {
        panic!("CPU {} cannot be interrupted: {error}", percpu::this_cpu().0);
    }
}

/// Length of a time slice.
fn slice() -> Ticks {
    Ticks(timer::frequency() * SLICE_MILLISECONDS / 1000)
}

/// RAM that neither firmware, nor the monitor's image, nor a boot module occupies.
fn free_ranges(machine: &Machine) -> heapless::Vec<RamRange, 32> {
    let mut ranges = heapless::Vec::new();
    for range in machine.free_memory() {
        let (start, end) =
            (Mfn(range.start.div_ceil(abi::PAGE_SIZE as u64)), Mfn::containing(range.end));
        // SAFETY: the device tree says that it is RAM, and `free_memory` that nothing is in it.
        let usable = start < end && ranges.push(unsafe { RamRange::new(start, end) }).is_ok();
        if !usable {
            log::warn!("RAM at {:#x}..{:#x} is not used", range.start, range.end);
        }
    }
    ranges
}
