//! `console_io`: the UART for the privileged domain, the monitor's log for the others.

use abi::Errno;
use abi::console::Command;

use super::call::{Call, Outcome};
use crate::guest;
use crate::machine::{timer, uart};
use crate::types::GuestVa;

/// Bytes that are copied and written at a time. Between two, an interrupt may be taken.
const CHUNK: usize = 128;

/// `console_io(command, length, buffer)`
pub fn console_io(call: &mut Call<'_>) -> Outcome {
    let [command, length, buffer, ..] = *call.args;
    // The length is 32 bits long.
    let length = length as u32;
    match Command::from_raw(command) {
        Some(Command::Write) => write(call, length.into(), GuestVa(buffer)),
        Some(Command::Read) => read(call, length, GuestVa(buffer)).into(),
        None => Errno::ENOSYS.into(),
    }
}

fn write(call: &mut Call<'_>, length: u64, buffer: GuestVa) -> Outcome {
    let mut written = 0;
    while written < length {
        if written > 0 && call.preempt_pending() {
            let [command, ..] = *call.args;
            let rest = buffer.0.wrapping_add(written);
            return call.proceed([command, length - written, rest, 0, 0]);
        }
        let size = (length - written).min(CHUNK as u64);
        let from = GuestVa(buffer.0.wrapping_add(written));
        if let Err(errno) = write_chunk(call, from, size as usize) {
            return errno.into();
        }
        written += size;
    }
    Outcome::Return(0)
}

fn write_chunk(call: &mut Call<'_>, from: GuestVa, size: usize) -> Result<(), Errno> {
    let mut chunk = [0; CHUNK];
    let chunk = chunk.get_mut(..size).ok_or(Errno::EINVAL)?;
    guest::read_bytes(call.monitor, from, chunk)?;
    let caller = call.caller.domain;
    let domain = call.domain()?;
    if domain.privileged {
        uart::console_write(chunk);
        return Ok(());
    }
    match domain.log_budget.take(timer::now()) {
        Ok(()) => log::info!("({caller}) {}", chunk.trim_ascii_end().escape_ascii()),
        Err(1) => log::warn!("({caller}) writes too much; the rest of this second is left out"),
        Err(_) => {}
    }
    Ok(())
}

/// Copies out what has been typed and fits. A count beyond what the answer can say is refused.
fn read(call: &mut Call<'_>, length: u32, buffer: GuestVa) -> Result<u64, Errno> {
    call.privileged()?;
    if i32::try_from(length).is_err() {
        return Err(Errno::E2BIG);
    }
    let length = u64::from(length);
    let mut done = 0;
    // As long as the monitor has characters, which are few.
    while done < length {
        let mut chunk = [0; CHUNK];
        let size = (length - done).min(CHUNK as u64) as usize;
        let count = uart::console_read(chunk.get_mut(..size).ok_or(Errno::EINVAL)?);
        let received = chunk.get(..count).ok_or(Errno::EINVAL)?;
        guest::write_bytes(call.monitor, GuestVa(buffer.0.wrapping_add(done)), received)?;
        done += count as u64;
        if count < size {
            break;
        }
    }
    Ok(done)
}
