//! The person at dom0's prompt.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use xtask::session::Session;

/// How often something is looked at until it has changed.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

/// The person at dom0's prompt.
#[derive(Debug)]
pub struct Shell {
    session: Session,
}

/// What the counters of a domain say (`xl counters`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Events delivered.
    pub events: u64,
    /// Emulated register accesses.
    pub mmio: u64,
    /// Trapped system registers.
    pub system_registers: u64,
}

impl Shell {
    /// At the console of `session`.
    pub fn new(session: Session) -> Shell {
        Shell { session }
    }

    /// Waits for the first prompt.
    ///
    /// # Errors
    /// There is none.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        Ok(self.session.wait_until_ready()?)
    }

    /// The console itself, for what is no plain command.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Everything that the console showed.
    pub fn transcript(&self) -> String {
        self.session.transcript()
    }

    /// Runs `command`, which must succeed; returns what it printed.
    ///
    /// # Errors
    /// It failed, or the machine did.
    pub fn succeeds(&mut self, command: &str) -> Result<String> {
        let output = self.session.run(command)?;
        ensure!(output.status == 0, "`{command}` failed with status {}", output.status);
        Ok(output.text)
    }

    /// Runs `command`, which must fail and say a reason with all of `words` in it.
    ///
    /// # Errors
    /// It succeeded, or said something else, or the machine died.
    pub fn fails(&mut self, command: &str, words: &[&str]) -> Result<()> {
        let output = self.session.run(command)?;
        ensure!(output.status != 0, "`{command}` succeeded");
        for word in words {
            ensure!(
                output.text.contains(word),
                "`{command}` failed, but its reason does not name `{word}`: {}",
                output.text.trim()
            );
        }
        Ok(())
    }

    /// Leaves the guest's console that `command` has attached.
    ///
    /// # Errors
    /// The command does not end.
    pub fn leave_console(&mut self, command: &str) -> Result<()> {
        const LEAVE: &[u8] = b"\x1d";
        self.session.type_bytes(LEAVE, "Ctrl-]")?;
        self.session.finish(command)?;
        Ok(())
    }

    /// Frames of memory that nobody has.
    ///
    /// # Errors
    /// `xl info` does not say.
    pub fn free_frames(&mut self) -> Result<u64> {
        let info = self.succeeds("xl info")?;
        free_frames_in(&info).with_context(|| format!("no free frames in: {info}"))
    }

    /// Waits until so many frames are free, or up to `slack` fewer.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_for_free_frames(&mut self, wanted: u64, slack: u64) -> Result<()> {
        let mut free = 0;
        for _ in 0..ROUNDS {
            free = self.free_frames()?;
            if (wanted.saturating_sub(slack)..=wanted).contains(&free) {
                return Ok(());
            }
            self.session.wait(PAUSE)?;
        }
        bail!("{free} frames are free, not {wanted} (or up to {slack} fewer)")
    }

    /// Whether `xl list` names the domain.
    ///
    /// # Errors
    /// The machine died.
    pub fn lists(&mut self, domain: &str) -> Result<bool> {
        Ok(self.state(domain)?.is_some())
    }

    /// The letters of the domain's state in `xl list`; `None` if it is not there.
    ///
    /// # Errors
    /// The machine died.
    pub fn state(&mut self, domain: &str) -> Result<Option<String>> {
        let list = self.succeeds("xl list")?;
        Ok(row(&list, domain).and_then(|row| row.get(4).map(|state| state.to_string())))
    }

    /// Waits until the domain has so many vCPUs online.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_for_vcpus(&mut self, domain: &str, count: u64) -> Result<()> {
        let mut online = None;
        for _ in 0..ROUNDS {
            let list = self.succeeds("xl list")?;
            online = row(&list, domain).and_then(|row| row.get(3)?.parse().ok());
            if online == Some(count) {
                return Ok(());
            }
            self.session.wait(PAUSE)?;
        }
        bail!("{domain} has {online:?} vCPUs online, not {count}")
    }

    /// How often one physical CPU has interrupted another.
    ///
    /// # Errors
    /// `xl info` does not say.
    pub fn ipis(&mut self) -> Result<u64> {
        let info = self.succeeds("xl info")?;
        let line = info.lines().find_map(|line| line.strip_prefix("ipis")?.split_once(':'));
        let (_, count) = line.with_context(|| format!("no ipis in: {info}"))?;
        Ok(count.trim().parse()?)
    }

    /// The domain's counters.
    ///
    /// # Errors
    /// `xl counters` does not have them.
    pub fn counters(&mut self, domain: &str) -> Result<Counters> {
        let table = self.succeeds("xl counters")?;
        let row = row(&table, domain).with_context(|| format!("no counters of {domain}"))?;
        let number = |column: usize| -> Result<u64> {
            Ok(row.get(column).context("a column is missing")?.parse()?)
        };
        Ok(Counters { events: number(8)?, mmio: number(3)?, system_registers: number(4)? })
    }

    /// Interrupts of the machine that were taken while the domain ran.
    ///
    /// # Errors
    /// `xl counters` does not say.
    pub fn interrupts(&mut self, domain: &str) -> Result<u64> {
        let table = self.succeeds("xl counters")?;
        let row = row(&table, domain).with_context(|| format!("no counters of {domain}"))?;
        Ok(row.get(7).context("a column is missing")?.parse()?)
    }

    /// Waits until the domain is gone.
    ///
    /// # Errors
    /// It stays.
    pub fn wait_until_gone(&mut self, domain: &str) -> Result<()> {
        for _ in 0..ROUNDS {
            if !self.lists(domain)? {
                return Ok(());
            }
            self.session.wait(PAUSE)?;
        }
        bail!("{domain} is still there")
    }

    /// Powers the machine off.
    ///
    /// # Errors
    /// It does not go off.
    pub fn power_off(self) -> Result<()> {
        Ok(self.session.power_off()?)
    }
}

/// The words of the row of `table` that begins with `name`.
fn row<'a>(table: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|row| row.first() == Some(&name))
}

/// Reads "free_memory : 300 MiB (76800 frames)".
fn free_frames_in(info: &str) -> Option<u64> {
    let line = info.lines().find(|line| line.starts_with("free_memory"))?;
    line.split_once('(')?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let list = "Name  ID  Mem  VCPUs  State   Time(s)\nhash  12   16      1  -b----   0.1\n";
        assert_eq!(row(list, "hash").unwrap()[4], "-b----");
        assert_eq!(row(list, "has"), None);
    }

    #[test]
    fn free_memory_is_read_in_frames() {
        let info = "total_memory : 512 MiB (131072 frames)\nfree_memory : 3 MiB (1000 frames)\n";
        assert_eq!(free_frames_in(info), Some(1000));
        assert_eq!(free_frames_in("free_memory : lots"), None);
    }
}
