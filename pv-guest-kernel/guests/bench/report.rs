//! Rows: an operation is done many times, and one line says what it cost.

use alloc::vec::Vec;
use core::time::Duration;

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::{println, time};
use thiserror::Error;

use crate::machine::interrupt::Handler;
use crate::ruler::Ruler;

/// How often each operation is done if nothing else is said.
const SAMPLES: usize = 2000;
/// How often it is done before that, unmeasured.
const WARM_UP: usize = 20;
/// How long others may still be busy with what was done before, showing a line for example.
const PAUSE: Duration = Duration::from_millis(5);

/// Why an operation, or what it needs, did not work.
#[derive(Debug, Clone, Copy, Error)]
pub enum Failure {
    /// The monitor refused the call.
    #[error("{0}")]
    Call(#[from] Errno),
    /// It refused an element of a batch (a grant's status).
    #[error("status {0}")]
    Status(i16),
    /// It did something else than it should have.
    #[error("{0}")]
    Wrong(&'static str),
}

/// Prints the rows.
#[derive(Debug)]
pub struct Report {
    samples: usize,
    only: Option<&'static str>,
    ruler: Ruler,
}

impl Report {
    /// Rows of so many samples; `only` those whose name contains one of its parts.
    pub fn new(samples: Option<usize>, only: Option<&'static str>) -> Report {
        let samples = samples.filter(|&samples| samples > 0).unwrap_or(SAMPLES);
        Report { samples, only, ruler: Ruler::new() }
    }

    /// Whether a row is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only.split(',').any(|part| name.contains(part)))
    }

    /// Takes samples of an operation, and prints what it cost or why it failed.
    pub async fn row(&self, name: &str, sample: impl FnMut(&Ruler) -> Result<u64, Failure>) {
        self.row_of(name, self.samples, sample).await;
    }

    /// The same for an operation that is done so many times, because it takes long.
    pub async fn row_of(
        &self,
        name: &str,
        samples: usize,
        mut sample: impl FnMut(&Ruler) -> Result<u64, Failure>,
    ) {
        if !self.wants(name) {
            return;
        }
        time::sleep(PAUSE).await;
        // One that waits for the CPU is dearer to the monitor, whatever is measured.
        Handler::install().drain();
        match self.take(samples, &mut sample) {
            Ok(mut ticks) => print(name, &mut ticks),
            Err(failure) => println!("bench: {name} failed: {failure}"),
        }
    }

    fn take(
        &self,
        count: usize,
        sample: &mut impl FnMut(&Ruler) -> Result<u64, Failure>,
    ) -> Result<Vec<u64>, Failure> {
        let mut ticks = Vec::with_capacity(count);
        for _ in 0..WARM_UP.min(count) {
            sample(&self.ruler)?;
        }
        for _ in 0..count {
            ticks.push(sample(&self.ruler)?);
        }
        Ok(ticks)
    }
}

fn print(name: &str, ticks: &mut [u64]) {
    ticks.sort_unstable();
    let at = |percent: usize| ticks.get(ticks.len() * percent / 100).copied().unwrap_or(0);
    let (median, min, p99) = (at(50), at(0), at(99));
    println!("bench: {name} samples={} median={median} min={min} p99={p99}", ticks.len());
}
