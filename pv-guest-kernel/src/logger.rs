//! The `log` crate's records, on the console.

use log::{LevelFilter, Log, Metadata, Record};

use crate::{println, time};

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let time = time::now();
        println!(
            "[{:5}.{:06}] {:5} {}: {}",
            time.as_secs(),
            time.subsec_micros(),
            record.level(),
            record.target(),
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Begins to log, at the level that `log=LEVEL` on the command line says, or INFO.
pub(crate) fn start(level: Option<&str>) {
    let level = level.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
    // Fails only if called twice.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(level);
    }
}
