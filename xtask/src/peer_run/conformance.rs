//! The guest `conformance` on Xen: what it expects of the monitor is what Xen answers.
//!
//! It prints a line for each answer, which begins with "FAIL" if it expected another one. On Xen those
//! have to be [`DIFFERENCES`], each of them and no other.

use anyhow::{Context, Result, ensure};

use super::{Stage, TIMEOUT};
use crate::peer::{Guest, Machine};

/// An answer of Debian's Xen 4.17 that the guest does not expect.
struct Difference {
    /// The question and Xen's answer, as the guest prints them.
    line: &'static str,
    /// Why it stays different.
    why: &'static str,
}

/// All of them. docs/xen.md has them, too, with what Aurochs answers.
const DIFFERENCES: [Difference; 6] = [
    Difference {
        line: "platform_parameters: Ok(2097152)",
        why: "where Xen 4.17 has its own code, which later versions have moved",
    },
    Difference { line: "guest_handle: false", why: "a domain that Xen makes itself has no UUID" },
    Difference {
        line: "callback interrupt's number: (0, 0)",
        why: "the toolstack says it, and for a domain that Xen makes itself there is none",
    },
    Difference {
        line: "the memory of no domain: Err(ESRCH)",
        why: "who may not ask learns from Xen which domains there are",
    },
    Difference {
        line: "a third one: Ok(4294967268)",
        why: "Xen returns -ENOSPC as an unsigned number of 32 bits",
    },
    Difference {
        line: "read: Ok(0)",
        why: "a domain that Xen makes itself may read from Xen's console, without a dom0",
    },
];

/// What is in the line after the questions, and ends it.
const END: (&str, &str) = (" as expected, ", " not");
/// The line's beginning if Xen has answered otherwise.
const OTHERWISE: &str = "FAIL ";
/// At least so many answers are right.
const RIGHT: usize = 120;
/// Memory of each of the two.
const MEMORY_KIB: u32 = 8 << 10;

/// Two such domains, one of which asks about events in the FIFO ABI: one domain cannot ask about both.
pub(super) fn run(stage: &Stage<'_>) -> Result<()> {
    let guest = |command_line| Guest::ours(stage.images, "conformance", command_line, MEMORY_KIB);
    let machine = Machine::dom0less(vec![guest("other=2")?, guest("events=fifo")?]);
    let mut console = machine.boot(stage.qemu, stage.name, TIMEOUT)?;
    let is_last = |line: &&str| line.contains(END.0) && line.ends_with(END.1);
    let ended = |text: &str| text.lines().filter(is_last).count() == machine.guests.len();
    console.wait_for("the last lines", ended)?;
    compare(&console.text()).with_context(|| console.place())?;
    for Difference { line, why } in DIFFERENCES {
        (stage.progress)(&format!("otherwise, as known: {line} ({why})"));
    }
    Ok(())
}

/// Compares what the guests have said with what is known.
fn compare(text: &str) -> Result<()> {
    // Xen writes the domain's number before each line: "(d1) ".
    let lines: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(") ")?.1)).collect();
    let otherwise: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix(OTHERWISE)).collect();
    let is_known = |line: &str| DIFFERENCES.iter().any(|known| known.line == line);
    let unknown: Vec<&str> = otherwise.iter().copied().filter(|line| !is_known(line)).collect();
    ensure!(unknown.is_empty(), "Xen answers otherwise than is expected: {}", unknown.join("; "));
    let known = DIFFERENCES.iter().map(|known| known.line);
    let missing: Vec<&str> = known.filter(|line| !otherwise.contains(line)).collect();
    ensure!(missing.is_empty(), "Xen does not answer otherwise any more: {}", missing.join("; "));
    let right = lines.iter().filter(|line| line.starts_with("ok ")).count();
    ensure!(right >= RIGHT, "only {right} answers are as expected");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(otherwise: &[&str]) -> String {
        let right = "(d1) ok   version: Ok(262161)\n".repeat(RIGHT);
        let lines = otherwise.iter().map(|line| format!("(d1) {OTHERWISE}{line}\n"));
        format!("(XEN) Booting\n{right}{}", lines.collect::<String>())
    }

    #[test]
    fn exactly_the_known_differences_pass() {
        let mut lines = DIFFERENCES.map(|known| known.line).to_vec();
        compare(&console(&lines)).unwrap();
        lines.push("pagesize: Ok(1)");
        let error = compare(&console(&lines)).unwrap_err().to_string();
        assert!(error.contains("pagesize: Ok(1)"), "{error}");
        let error = compare(&console(&lines[1..DIFFERENCES.len()])).unwrap_err().to_string();
        assert!(error.contains(DIFFERENCES[0].line), "{error}");
        assert!(compare("").is_err());
    }

    #[test]
    fn the_documentation_has_each() {
        let text = include_str!("../../../docs/xen.md");
        for Difference { line, .. } in DIFFERENCES {
            let question = line.split(':').next().unwrap();
            assert!(text.contains(&format!("| `{question}`")), "{question}");
        }
    }
}
