//! `disk-speed`: how fast dom0 itself is, to compare guests with.

use alloc::string::String;

use super::{arguments::number, command::Failure, session::Session};
use crate::block::{
    speed::{Work, measure},
    target::{Target, size_of},
};

/// `disk-speed`
pub async fn speed(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [disk, operation, size, count, depth] = arguments else { return Err(Failure::Usage) };
    let target: Target = disk.parse()?;
    let bytes = size_of(size).and_then(|size| usize::try_from(size).ok());
    let work = Work {
        write: match operation.as_str() {
            "read" => false,
            "write" => true,
            _ => return Err(Failure::Usage),
        },
        size: bytes.filter(|&bytes| bytes > 0).ok_or(Failure::Usage)?,
        count: number::<u32>(count, "how many blocks")?.into(),
        depth: number::<u16>(depth, "how many blocks at once")?.into(),
    };
    let (elapsed, median) = measure(&target, work).await?;
    writeln!(
        session.terminal,
        "{operation} {count} of {} bytes in {} us, median {} ns",
        work.size,
        elapsed.as_micros(),
        median.as_nanos()
    );
    Ok(())
}
