//! Against the tree of QEMU's virt machine: 512 MiB, two CPUs, a GICv3, and a kernel and a ramdisk
//! from the guest-loader. Broken trees are made from it by renaming what is searched for.

use super::*;

static VIRT: &[u8] = include_bytes!("virt.dtb");
const IMAGE: Range<u64> = 0x4020_0000..0x4030_0000;

fn parse(blob: &[u8]) -> Result<Machine, DescriptionError> {
    Machine::parse(blob.to_vec().leak(), IMAGE)
}

/// The tree with every occurrence of a string overwritten by as many x.
fn without(text: &str) -> std::vec::Vec<u8> {
    let mut blob = VIRT.to_vec();
    let places: std::vec::Vec<usize> =
        (0..blob.len()).filter(|&at| blob[at..].starts_with(text.as_bytes())).collect();
    assert!(!places.is_empty(), "{text} is not in the tree");
    for at in places {
        blob[at..at + text.len()].fill(b'x');
    }
    blob
}

#[test]
fn the_virt_machine_is_understood() {
    let machine = parse(VIRT).expect("a usable tree");
    assert_eq!(machine.memory.as_slice(), [Range { start: 0x4000_0000, end: 0x6000_0000 }]);
    assert_eq!(machine.cpus, [0, 1]);
    assert_eq!(machine.gicd, 0x0800_0000..0x0801_0000);
    assert_eq!(machine.gicr, 0x080A_0000..0x0900_0000);
    assert_eq!(machine.maintenance, Intid(25));
    let uart = Device {
        registers: 0x0900_0000..0x0900_1000,
        interrupt: Intid(33),
        trigger: Trigger::Level,
    };
    assert_eq!(machine.uart, uart);
    let timer = TimerInterrupts { physical: Intid(30), virtual_: Intid(27), hypervisor: Intid(26) };
    assert_eq!(machine.timer, timer);
    assert_eq!(machine.conduit, Conduit::Smc);
    assert_eq!(machine.bootargs, "dom0_mem=128");
}

#[test]
fn virtio_transports_are_in_address_order() {
    let machine = parse(VIRT).expect("a usable tree");
    assert_eq!(machine.virtio.len(), 32);
    for (n, device) in (0u32..).zip(&machine.virtio) {
        let start = 0x0A00_0000 + u64::from(n) * 0x200;
        assert_eq!(device.registers, start..start + 0x200);
        assert_eq!((device.interrupt, device.trigger), (Intid(48 + n), Trigger::Edge));
    }
}

#[test]
fn modules_are_found_and_reserved() {
    let machine = parse(VIRT).expect("a usable tree");
    let kernel = Module { range: 0x4800_0000..0x4800_1000, bootargs: "console=hvc0" };
    let ramdisk = Module { range: 0x4900_0000..0x4900_1000, bootargs: "" };
    for range in [IMAGE, kernel.range.clone(), ramdisk.range.clone()] {
        assert!(machine.reserved.contains(&range), "{range:x?} is not reserved");
    }
    assert_eq!(machine.reserved.len(), 4, "and the tree itself");
    assert_eq!((machine.kernel, machine.ramdisk), (Some(kernel), Some(ramdisk)));
}

#[test]
fn a_machine_without_modules_is_one() {
    let machine = parse(&without("multiboot,kernel")).expect("a usable tree");
    assert_eq!(machine.kernel, None);
    assert!(machine.ramdisk.is_some());
}

#[test]
fn what_is_missing_is_named() {
    for needed in [GIC, UART, TIMER, PSCI] {
        // "arm,psci" alone is the 0.1 binding, whose functions have no fixed numbers.
        let error = parse(&without(needed)).expect_err("an unusable tree");
        assert_eq!(error, DescriptionError::MissingNode(needed));
        assert!(std::format!("{error}").contains(needed));
    }
    let console = find_uart(without(GIC).leak()).expect("a console to complain on");
    assert_eq!(console.registers.start, 0x0900_0000);
    let error = parse(&without("method\0")).expect_err("no conduit");
    assert_eq!(error, DescriptionError::MissingProperty(PSCI, "method"));
    assert_eq!(parse(b"not a tree").expect_err("no tree"), DescriptionError::Malformed);
}

#[test]
fn interrupt_specifiers_of_no_gic_are_refused() {
    assert_eq!(decode_interrupt(0, 0, 4), Some((Intid(32), Trigger::Level)));
    assert_eq!(decode_interrupt(1, 15, 1), Some((Intid(31), Trigger::Edge)));
    assert_eq!(decode_interrupt(1, 16, 1), None);
    assert_eq!(decode_interrupt(2, 0, 4), None);
    assert_eq!(decode_interrupt(0, 988, 4), None, "special interrupt numbers");
    assert_eq!(decode_interrupt(0, u32::MAX, 4), None);
}
