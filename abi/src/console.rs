//! `console_io` and the console's shared ring (public/xen.h, public/io/console.h).

use crate::{layout, numbers};

numbers! {
    /// Commands of `console_io`: x0 command, x1 length, x2 pointer.
    pub enum Command: u64 {
        /// Writes bytes to the monitor's console.
        Write = 0,
        /// Reads bytes (privileged); returns how many, without waiting.
        Read = 1,
    }
}

/// Bytes from the backend to the guest that fit in the ring.
pub const INPUT_SIZE: usize = 1024;
/// Bytes from the guest to the backend that fit in the ring.
pub const OUTPUT_SIZE: usize = 2048;

/// The ring page. Indices run freely and are masked by the sizes; `output` flows from the guest
/// to the backend. Both sides access it atomically: the structure gives offsets.
#[derive(Debug)]
#[repr(C)]
pub struct Ring {
    /// To the guest.
    pub input: [u8; INPUT_SIZE],
    /// From the guest.
    pub output: [u8; OUTPUT_SIZE],
    /// Consumed by the guest.
    pub input_consumer: u32,
    /// Produced by the backend.
    pub input_producer: u32,
    /// Consumed by the backend.
    pub output_consumer: u32,
    /// Produced by the guest.
    pub output_producer: u32,
    /// 0: connected.
    pub connection: u8,
}
layout!(
    Ring, 3092,
    output @ 1024, input_consumer @ 3072, input_producer @ 3076, output_consumer @ 3080,
    output_producer @ 3084, connection @ 3088,
);
