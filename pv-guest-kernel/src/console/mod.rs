//! The domain's console: the ring that the toolstack made for it, or the monitor's own console
//! (privileged domain, and before the ring is known). Every vCPU may print; vCPU 0 reads.

mod ring;

use alloc::rc::Rc;
use core::cell::OnceCell;
use core::fmt;

use abi::event::Virq;
use abi::hvm::Index;
use abi::version::Features;
use abi::{DomId, Errno, Port};

use crate::event::Channel;
use crate::hypercall;
use crate::local::VcpuShared;
use crate::shared::SharedPage;

use ring::RingConsole;

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::print!("{}\n", format_args!($($argument)*)) };
}

#[derive(Debug)]
enum Console {
    /// The monitor's.
    Monitor,
    /// A backend's.
    Ring(RingConsole),
}

static CONSOLE: VcpuShared<Console> = VcpuShared::new(Console::Monitor);

crate::vcpu_local! {
    /// Announces input; nothing if this domain has none.
    static INPUT: OnceCell<Rc<Channel>> = OnceCell::new();
}

/// Finds this domain's console. Until then output goes to the monitor's.
///
/// # Errors
/// What the monitor answers.
pub fn connect(features: Features) -> Result<(), Errno> {
    let (console, input) = if features.contains(Features::DOM0) {
        (Console::Monitor, Channel::bind_virq(Virq::Console)?)
    } else {
        match SharedPage::from_parameter(Index::ConsolePfn)? {
            Some(page) => {
                let channel = ring_channel()?;
                (Console::Ring(RingConsole::new(page, channel.port())), channel)
            }
            None => return Ok(()),
        }
    };
    CONSOLE.with(|current| *current = console);
    // It is set once, by boot.
    let _ = INPUT.with(|cell| cell.set(Rc::new(input)));
    Ok(())
}

fn ring_channel() -> Result<Channel, Errno> {
    let port = hypercall::hvm::parameter(DomId::SELF, Index::ConsoleEvtchn)?;
    Channel::adopt(Port(u32::try_from(port).map_err(|_| Errno::EINVAL)?))
}

/// Writes bytes as they are. If nobody takes them for a while, they are lost and counted; the
/// count is printed once there is room again.
pub fn write(bytes: &[u8]) {
    // What is said while something is being said (by a panic in here, say) is dropped.
    CONSOLE.with(|console| match console {
        Console::Monitor => write_to_monitor(bytes),
        Console::Ring(ring) => ring.write(bytes),
    });
}

/// Writes formatted text; a line ends as a terminal wants it.
pub fn print(arguments: fmt::Arguments<'_>) {
    // The writer never fails, and a formatter that does has nobody to tell.
    let mut text = Text::new();
    let _ = fmt::write(&mut text, arguments);
    text.flush();
}

/// Reads what was typed, at least one byte if `buffer` is not empty. One task at a time can wait.
pub async fn read(buffer: &mut [u8]) -> usize {
    loop {
        let count = CONSOLE.with(|console| console.try_read(buffer)).unwrap_or(0);
        if count > 0 || buffer.is_empty() {
            return count;
        }
        match INPUT.with(|input| input.get().cloned()) {
            Some(channel) => channel.wait().await,
            None => core::future::pending().await,
        }
    }
}

/// Gives the backend some time to take what was written.
pub(crate) fn flush() {
    CONSOLE.with(|console| {
        if let Console::Ring(ring) = console {
            ring.flush();
        }
    });
}

fn write_to_monitor(bytes: &[u8]) {
    // A monitor that refuses, as Xen does for others than dom0, leaves us without a console.
    let _ = hypercall::console_write(bytes);
}

impl Console {
    fn try_read(&self, buffer: &mut [u8]) -> usize {
        match self {
            Console::Monitor => hypercall::console_read(buffer).unwrap_or(0),
            Console::Ring(ring) => ring.read(buffer),
        }
    }
}

/// Gathers the pieces of formatted text, so that they cost one hypercall and not many.
#[derive(Debug)]
struct Text {
    /// The monitor ends lines itself; a ring's reader gets what a terminal wants.
    line_end: &'static str,
    pieces: heapless::String<256>,
}

impl Text {
    fn new() -> Text {
        let to_ring = CONSOLE.with(|console| matches!(console, Console::Ring(_)));
        let line_end = if to_ring == Some(true) { "\r\n" } else { "\n" };
        Text { line_end, pieces: heapless::String::new() }
    }

    fn push(&mut self, piece: &str) {
        if self.pieces.push_str(piece).is_ok() {
            return;
        }
        self.flush();
        if self.pieces.push_str(piece).is_err() {
            write(piece.as_bytes());
        }
    }

    fn flush(&mut self) {
        write(self.pieces.as_bytes());
        self.pieces.clear();
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            self.push(line.trim_end_matches('\n'));
            if line.ends_with('\n') {
                self.push(self.line_end);
            }
        }
        Ok(())
    }
}
