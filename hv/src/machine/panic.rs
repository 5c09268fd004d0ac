//! The monitor's end: says what happened, where, and who ran, then stops the machine.
#![cfg(target_os = "none")]

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::percpu::{self, FaultRegisters};
use super::registers::read_register;
use super::symbols::Symbols;
use super::uart::Emergency;
use super::{boot, gic, power};
use crate::types::VcpuKey;

/// Frames that a backtrace shows at most.
const MAX_DEPTH: usize = 32;

/// What the numbers of the vectors mean (Arm ARM D1.4.1.5).
const KINDS: [&str; 4] = ["synchronous exception", "IRQ", "FIQ", "SError"];

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop_if_nested();
    let mut out = Emergency::new();
    // The emergency writer never fails.
    let _ = write!(out, "\nPANIC: monitor: {}", info.message());
    let _ = match info.location() {
        Some(location) => writeln!(out, " at {}:{}", location.file(), location.line()),
        None => writeln!(out),
    };
    finish(&mut out, read_register_x29(), None)
}

/// Where the vectors go with an exception that the monitor did not expect, on the emergency
/// stack.
#[unsafe(no_mangle)]
extern "C" fn monitor_fault_entry(vector: u64) -> ! {
    stop_if_nested();
    let mut out = Emergency::new();
    let (syndrome, elr) = (read_register!("esr_el2"), read_register!("elr_el2"));
    let kind = KINDS.get(vector as usize % 4).unwrap_or(&"exception");
    let origin = if vector < 8 { "in the monitor" } else { "from a guest" };
    let _ = writeln!(
        out,
        "\nPANIC: monitor: {kind} {origin}: {} at {}",
        describe(syndrome),
        Symbolized(elr)
    );
    // SAFETY: the vectors have just written the registers, and nothing else does.
    let registers = unsafe { *percpu::this().fault.get() };
    print_registers(&mut out, &registers);
    // A jump to nowhere left no frame record: the link register knows where it came from.
    let origin = match is_code(elr) {
        true => elr,
        false => registers.x[30],
    };
    finish(&mut out, registers.x[29], Some(origin))
}

/// A fault while a panic is being reported must not be reported for ever.
fn stop_if_nested() {
    static DEPTH: AtomicUsize = AtomicUsize::new(0);
    match DEPTH.fetch_add(1, Ordering::Relaxed) {
        0 => {}
        1 => {
            let elr = read_register!("elr_el2");
            let _ = writeln!(Emergency::new(), "\nanother fault meanwhile at {}", Symbolized(elr));
            let _ = writeln!(Emergency::new(), "monitor halted");
            power::halt()
        }
        _ => power::halt(),
    }
}

fn is_code(address: u64) -> bool {
    boot::image().code.contains(&address)
}

fn finish(out: &mut Emergency, frame: u64, pc: Option<u64>) -> ! {
    gic::stop_others();
    print_state(out);
    print_backtrace(out, frame, pc);
    let _ = writeln!(out, "monitor halted");
    power::halt()
}

fn print_registers(out: &mut Emergency, registers: &FaultRegisters) {
    for (row, values) in registers.x.chunks(4).enumerate() {
        for (column, value) in values.iter().enumerate() {
            let _ = write!(out, "  x{:<2} {value:016x}", row * 4 + column);
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(out, "  sp  {:016x}", registers.sp);
}

fn print_state(out: &mut Emergency) {
    let _ = write!(out, "CPU {}, running ", percpu::this_cpu().0);
    let _ = match percpu::running() {
        VcpuKey::NONE => writeln!(out, "no vCPU"),
        key => writeln!(out, "{key}"),
    };
    for (name, value) in [
        ("ESR_EL2", read_register!("esr_el2")),
        ("ELR_EL2", read_register!("elr_el2")),
        ("SPSR_EL2", read_register!("spsr_el2")),
        ("FAR_EL2", read_register!("far_el2")),
        ("HPFAR_EL2", read_register!("hpfar_el2")),
        ("HCR_EL2", read_register!("hcr_el2")),
        ("VTTBR_EL2", read_register!("vttbr_el2")),
    ] {
        let _ = writeln!(out, "  {name:9} {value:016x}");
    }
}

fn print_backtrace(out: &mut Emergency, frame: u64, pc: Option<u64>) {
    let _ = writeln!(out, "backtrace:");
    for (depth, pc) in pc.into_iter().chain(Frames(frame)).take(MAX_DEPTH).enumerate() {
        let _ = writeln!(out, "  {depth:2} {pc:016x} {}", Symbolized(pc));
    }
}

/// Places of calls, innermost first, from a frame record on (AAPCS64 6.4.6).
struct Frames(u64);

impl Iterator for Frames {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        // Also a register that a broken program filled is walked only while it points into the
        // monitor's own memory.
        let image = boot::image().all;
        let inside = image.start <= self.0 && self.0 <= image.end - 16;
        if !inside || !self.0.is_multiple_of(16) {
            return None;
        }
        let record: *const [u64; 2] = core::ptr::with_exposed_provenance(self.0 as usize);
        // SAFETY: aligned, and inside the image, whose memory is mapped but for the guard pages:
        // a fault there ends the report (`stop_if_nested`) and nothing else.
        let [next, return_address] = unsafe { record.read_volatile() };
        // A stack grows downwards: callers lie above.
        self.0 = if next > self.0 { next } else { 0 };
        // The outermost frame returns to the vectors or to boot: no call of ours.
        // Else the call, not what comes after it: that may be another function's start.
        if next == 0 { None } else { return_address.checked_sub(4) }
    }
}

/// An address as `name+offset`, or as an offset in the image.
struct Symbolized(u64);

impl fmt::Display for Symbolized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = boot::image();
        if !is_code(self.0) {
            return write!(f, "{:#x} (outside the monitor's code)", self.0);
        }
        let offset = (self.0 - image.all.start) as u32;
        match symbols(&image).and_then(|symbols| symbols.lookup(offset)) {
            Some((name, rest)) => write!(f, "{name}+{rest:#x}"),
            None => write!(f, "image+{offset:#x}"),
        }
    }
}

/// The table that the build put into the image, if it did.
fn symbols(image: &super::image::Image) -> Option<Symbols<'static>> {
    let range = &image.symbols;
    let start: *const u8 = core::ptr::with_exposed_provenance(range.start as usize);
    // SAFETY: the linker script reserves the range in the constants, which nobody writes.
    let table = unsafe { core::slice::from_raw_parts(start, (range.end - range.start) as usize) };
    Symbols::parse(table)
}

/// The exception class in words, for those that the monitor can cause.
fn describe(syndrome: u64) -> &'static str {
    match syndrome >> 26 {
        0x00 => "unknown instruction",
        0x07 => "use of floating point",
        0x0E => "illegal execution state",
        0x18 => "trapped system register",
        0x21 => "instruction abort",
        0x22 => "misaligned program counter",
        0x25 => "data abort",
        0x26 => "misaligned stack",
        0x2F => "SError",
        0x3C => "breakpoint instruction",
        _ => "unexpected exception",
    }
}

#[inline(always)]
fn read_register_x29() -> u64 {
    let frame: u64;
    // SAFETY: reads the frame pointer.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack)) }
    frame
}
