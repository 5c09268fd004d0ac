//! From the boot loader to `monitor_main`, and from one CPU to the others.
//!
//! The image has the header of an arm64 Linux image: the loader puts it at any multiple of 2 MiB
//! and jumps to its start at EL2 with the MMU off and the device tree's address in x0.

#[cfg(target_os = "none")]
pub use target::{StartError, initialise, initialise_cpu, start_cpu};

#[cfg(target_os = "none")]
mod target {
    use core::fmt::{self, Write};
    use core::mem::offset_of;

    use spin::Once;

    use crate::machine::description::{Conduit, DescriptionError, Machine};
    use crate::machine::image::Image;
    use crate::machine::power::{self, PowerError};
    use crate::machine::{bytes, cache, description, el2, gic, log, mmu, percpu, rtc, uart};
    use crate::types::{CpuId, MAX_CPUS};

    unsafe extern "C" {
        safe static __image_start: u8;
        safe static __code_end: u8;
        safe static __constants_start: u8;
        safe static __constants_end: u8;
        safe static __symbols_start: u8;
        safe static __symbols_end: u8;
        safe static __image_end: u8;
        fn secondary_start();
    }

    core::arch::global_asm!(
        r#"
        .section .head.text, "ax"
        .global _start
    _start:
        b 1f
        .long 0
        // No offset from a 2 MiB boundary; little-endian, 4 KiB pages, anywhere in memory; "ARMd".
        .quad 0, __image_size, 0xa, 0, 0, 0, 0x644d5241

    1:  msr daifset, #0xf
        mov x20, x0
        adrp x0, __image_start              // linked at zero: the address is the displacement
        adrp x1, __relocations_start
        add x1, x1, :lo12:__relocations_start
        adrp x2, __relocations_end
        add x2, x2, :lo12:__relocations_end
    1:  cmp x1, x2
        b.hs 2f
        ldp x3, x4, [x1], #16               // offset, type
        ldr x5, [x1], #8                    // addend
        cmp x4, #0x403                      // R_AARCH64_RELATIVE
        b.ne 1b
        add x5, x5, x0
        str x5, [x0, x3]
        b 1b

    2:  adrp x1, __bss_start
        adrp x2, __bss_end
    3:  cmp x1, x2
        b.hs 4f
        stp xzr, xzr, [x1], #16
        b 3b

    4:  adrp x1, {AREAS}
        mov x2, {PER_CPU}
        add x1, x1, x2
        mov sp, x1
        mov x29, xzr
        mov x0, x20
        mrs x2, currentel
        cmp x2, #(2 << 2)
        b.ne wrong_exception_level
        msr tpidr_el2, x1
        adrp x2, vectors
        add x2, x2, :lo12:vectors
        msr vbar_el2, x2
        isb
        b monitor_main

        // x0: a Parameters. Touches no other memory before the caches are on.
        .global secondary_start
    secondary_start:
        msr daifset, #0xf
        ldp x1, x2, [x0]
        ldp x3, x4, [x0, #16]
        ldp x5, x6, [x0, #32]
        msr mair_el2, x1
        msr tcr_el2, x2
        msr ttbr0_el2, x3
        tlbi alle2
        ic iallu
        dsb nsh
        isb
        msr sctlr_el2, x4
        isb
        msr tpidr_el2, x5
        mov sp, x5
        adrp x2, vectors
        add x2, x2, :lo12:vectors
        msr vbar_el2, x2
        isb
        mov x29, xzr
        br x6
        "#,
        AREAS = sym percpu::AREAS,
        PER_CPU = const offset_of!(percpu::Area, per_cpu),
    );

    /// What a CPU needs to start, in the order in which `secondary_start` reads it. In a cache
    /// line of its own, because that CPU reads it without caches.
    #[repr(C, align(64))]
    struct Parameters {
        mmu: mmu::Control,
        per_cpu: u64,
        entry: extern "C" fn() -> !,
    }

    static PARAMETERS: [Once<Parameters>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

    /// Why the machine cannot be used.
    #[derive(Debug)]
    pub enum StartError {
        /// The device tree lacks something.
        Description(DescriptionError),
        /// The firmware is not called by SMC: it is a hypervisor, and EL2 is not ours.
        NoFirmware,
        /// The memory map cannot be mapped.
        Map(aarch64_paging::MapError),
        /// The interrupt controller does not work.
        Gic(gic::GicError),
        /// A CPU was not started by the firmware.
        Power(PowerError),
        /// There are not so many CPUs.
        NoCpu(CpuId),
    }

    impl fmt::Display for StartError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                StartError::Description(error) => write!(f, "device tree: {error}"),
                StartError::NoFirmware => write!(f, "PSCI must be called by SMC, not by HVC"),
                StartError::Map(error) => write!(f, "memory map: {error}"),
                StartError::Gic(error) => write!(f, "{error}"),
                StartError::Power(error) => write!(f, "{error}"),
                StartError::NoCpu(cpu) => write!(f, "there is no CPU {}", cpu.0),
            }
        }
    }

    /// Where the linker and the loader put the monitor.
    pub(in crate::machine) fn image() -> Image {
        let address = |symbol: &u8| core::ptr::from_ref(symbol).expose_provenance() as u64;
        Image {
            all: address(&__image_start)..address(&__image_end),
            code: address(&__image_start)..address(&__code_end),
            constants: address(&__constants_start)..address(&__constants_end),
            symbols: address(&__symbols_start)..address(&__symbols_end),
        }
    }

    /// Reads the device tree and takes the machine over: console and log first, then MMU, traps,
    /// interrupt controller and this CPU's part of it.
    ///
    /// # Safety
    /// To be called once, by the boot CPU, first thing, with the device tree's address as the
    /// loader gave it.
    pub unsafe fn initialise(dtb: u64) -> Result<Machine, StartError> {
        // The boot code has put the stack below this CPU's block, which is still zero.
        percpu::prepare(CpuId(0)).ok_or(StartError::NoCpu(CpuId(0)))?;
        let image = image();
        // SAFETY: the loader put a device tree there, and the description reserves its memory.
        let blob = unsafe { device_tree(dtb) };
        let console = description::find_uart(blob).map_err(StartError::Description)?;
        // SAFETY: the device tree says what is where, and nothing used it before.
        unsafe { uart::init(console.registers.start) };
        log::init(::log::LevelFilter::Info);
        let machine = Machine::parse(blob, image.all.clone()).map_err(StartError::Description)?;
        if let Some(rtc) = &machine.rtc {
            // SAFETY: as above; without the MMU all accesses are a device's.
            unsafe { rtc::init(rtc.start) };
        }
        // SAFETY: as above.
        unsafe {
            let devices =
                [machine.uart.registers.clone(), machine.gicd.clone(), machine.gicr.clone()];
            mmu::build(&image, &machine.memory, &devices).map_err(StartError::Map)?;
            mmu::Control::new().enable();
            if machine.conduit != Conduit::Smc {
                return Err(StartError::NoFirmware);
            }
            gic::init(machine.gicd.clone(), machine.gicr.clone(), &machine.cpus)
                .map_err(StartError::Gic)?;
        }
        initialise_cpu(&machine).map_err(StartError::Gic)?;
        bytes::note_cpu();
        Ok(machine)
    }

    /// Sets up the CPU that executes this: traps, interrupts, and those private interrupts that
    /// the monitor handles. `initialise` did it for the boot CPU.
    pub fn initialise_cpu(machine: &Machine) -> Result<(), gic::GicError> {
        el2::init_cpu();
        gic::init_cpu(percpu::this_cpu())?;
        let timer = &machine.timer;
        for intid in [timer.hypervisor, timer.virtual_, timer.physical, machine.maintenance] {
            gic::enable_ppi(intid)?;
        }
        Ok(())
    }

    /// Starts another CPU at `entry`, on its own stack with the MMU on; there it has to call
    /// `initialise_cpu`.
    pub fn start_cpu(
        machine: &Machine,
        cpu: CpuId,
        entry: extern "C" fn() -> !,
    ) -> Result<(), StartError> {
        let mpidr = *machine.cpus.get(cpu.0).ok_or(StartError::NoCpu(cpu))?;
        let per_cpu = percpu::prepare(cpu).ok_or(StartError::NoCpu(cpu))?;
        let slot = PARAMETERS.get(cpu.0).ok_or(StartError::NoCpu(cpu))?;
        let parameters = slot.call_once(|| Parameters {
            mmu: mmu::Control::new(),
            per_cpu: per_cpu.expose_provenance() as u64,
            entry,
        });
        let address = core::ptr::from_ref(parameters).expose_provenance() as u64;
        cache::clean(address, size_of::<Parameters>() as u64);
        power::cpu_on(mpidr, secondary_start as *const () as u64, address)
            .map_err(StartError::Power)
    }

    /// The device tree at an address.
    ///
    /// # Safety
    /// There must be one, which nobody changes.
    unsafe fn device_tree(address: u64) -> &'static [u8] {
        const SIZE_OFFSET: usize = 4;
        let start: *const u8 = core::ptr::with_exposed_provenance(address as usize);
        // SAFETY: as the caller says; the header says how long it is.
        unsafe {
            let size = start.add(SIZE_OFFSET).cast::<[u8; 4]>().read();
            core::slice::from_raw_parts(start, u32::from_be_bytes(size) as usize)
        }
    }

    /// Says on the console, if it can, that the monitor needs EL2, and stops.
    #[unsafe(no_mangle)]
    extern "C" fn wrong_exception_level(dtb: u64) -> ! {
        // SAFETY: as in `initialise`; the MMU is off, and nothing else runs.
        unsafe {
            if let Ok(console) = description::find_uart(device_tree(dtb)) {
                let mut out = uart::Emergency::at(console.registers.start);
                // The emergency writer never fails.
                let _ = out.write_str("PANIC: monitor: it must be started at EL2 (QEMU: -machine virtualization=on)\nmonitor halted\n");
            }
        }
        power::halt()
    }
}

#[cfg(target_os = "none")]
pub(super) use target::image;
