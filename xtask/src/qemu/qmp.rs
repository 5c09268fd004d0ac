//! Questions to a running QEMU, over its machine protocol (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection.
#[derive(Debug)]
pub struct Qmp {
    lines: BufReader<UnixStream>,
}

/// Where a CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    /// Its exception level.
    pub level: u8,
    /// Its program counter.
    pub pc: u64,
}

impl Qmp {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn connect(path: &Path) -> Result<Qmp> {
        let stream = UnixStream::connect(path).context("QEMU does not listen")?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut qmp = Qmp { lines: BufReader::new(stream) };
        qmp.read()?;
        qmp.ask("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Where all CPUs are.
    ///
    /// # Errors
    /// QEMU does not answer, or in a way that is not known.
    pub fn cpus(&mut self) -> Result<Vec<Cpu>> {
        let cpus = parse_registers(&self.human("info registers -a")?);
        if cpus.is_empty() {
            bail!("QEMU named no CPU");
        }
        Ok(cpus)
    }

    /// What QEMU's monitor prints when a person types `line`.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn human(&mut self, line: &str) -> Result<String> {
        let answer = self.ask("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_string())
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let question = json!({ "execute": command, "arguments": arguments });
        writeln!(self.lines.get_mut(), "{question}")?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused `{command}`: {error}");
            }
            // Events come in between.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("QEMU closed the connection");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// Reads what `info registers -a` prints.
fn parse_registers(text: &str) -> Vec<Cpu> {
    let after = |text: &str, key: &str| Some(text.get(text.find(key)? + key.len()..)?.to_string());
    let number = |text: &str, radix| {
        let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
        u64::from_str_radix(text.get(..end)?, radix).ok()
    };
    text.split("CPU#")
        .skip(1)
        .filter_map(|block| {
            let pc = number(&after(block, "PC=")?, 16)?;
            let state = number(&after(block, "PSTATE=")?, 16)?;
            let level = u8::try_from(state >> 2 & 3).ok()?;
            Some(Cpu { number: u32::try_from(number(block, 10)?).ok()?, level, pc })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_two_cpus() {
        let text = "\r\nCPU#0\r\n PC=0000000040200fec X00=000000003b9aca00\r\n\
            X30=0000000000000000  SP=0000000000000000\r\nPSTATE=400003c9 -Z-- EL2h    FPU disabled\r\n\
            \r\nCPU#1\r\n PC=ffff000040081234 X00=0\r\nPSTATE=600000c5 -ZC- NS EL1h\r\n";
        let cpus = parse_registers(text);
        assert_eq!(
            cpus,
            [
                Cpu { number: 0, level: 2, pc: 0x4020_0fec },
                Cpu { number: 1, level: 1, pc: 0xffff_0000_4008_1234 },
            ]
        );
        assert!(parse_registers("nothing").is_empty());
    }
}
