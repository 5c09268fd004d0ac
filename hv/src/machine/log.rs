//! The log: `[    0.001234] INFO  hv: text` lines, to the console and to the ring that `xl dmesg`
//! reads.

use core::fmt::Write;

use log::{LevelFilter, Log, Metadata, Record};

use super::timer;
use super::uart::CONSOLE;

struct ConsoleLog;

impl Log for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let microseconds = timer::to_nanoseconds(timer::now()) / 1000;
        let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
        let room = record.target().split("::").next().unwrap_or_default();
        // The console's writer never fails.
        let _ = writeln!(
            CONSOLE.lock(),
            "[{seconds:5}.{fraction:06}] {:5} {room}: {}",
            record.level(),
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Starts logging at that level. Later calls change the level.
pub fn init(level: LevelFilter) {
    // Fails if it was set already, to the same.
    let _ = log::set_logger(&ConsoleLog);
    log::set_max_level(level);
}

/// Copies out of the remembered log from a position (0: the oldest there is). Returns how many
/// bytes were copied and the position to go on from.
pub fn read(position: u64, into: &mut [u8]) -> (usize, u64) {
    CONSOLE.lock().ring.read(position, into)
}
