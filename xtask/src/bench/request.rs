//! What one run of the guest is to measure.

use super::operation::Operation;

/// What one run of the guest is to measure.
#[derive(Debug, Clone)]
pub struct Request {
    /// CPUs of the machine.
    pub cpus: u32,
    /// Samples of each operation.
    pub samples: u32,
    /// Which operations: those that are measured with so many CPUs.
    pub operations: Vec<&'static Operation>,
}

impl Request {
    /// One for each machine that `operations` need.
    pub fn for_all(operations: &[&'static Operation], samples: u32) -> Vec<Request> {
        let mut cpus: Vec<u32> = operations.iter().map(|operation| operation.cpus).collect();
        cpus.sort_unstable();
        cpus.dedup();
        let request = |cpus| {
            let with = operations.iter().copied().filter(|operation| operation.cpus == cpus);
            Request { cpus, samples, operations: with.collect() }
        };
        cpus.into_iter().map(request).collect()
    }

    /// The command line of the domain that measures.
    pub fn command_line(&self, partner: u16) -> String {
        let rows: Vec<&str> = self.operations.iter().map(|operation| operation.row).collect();
        format!("peer={partner} samples={} only={}", self.samples, rows.join(","))
    }

    /// The command line of its partner.
    pub fn partner_command_line(measurer: u16) -> String {
        format!("role=partner peer={measurer}")
    }

    /// The machine, for people.
    pub fn machine(&self) -> &'static str {
        if self.cpus == 1 { "with one CPU" } else { "with two CPUs" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::operation;

    #[test]
    fn each_machine_measures_its_own() {
        let operations = operation::matching(Some("ping-pong,copy-1"));
        let requests = Request::for_all(&operations, 7);
        let lines: Vec<_> = requests.iter().map(|r| (r.cpus, r.command_line(3))).collect();
        let expected = [
            (1, "peer=3 samples=7 only=ping-pong,copy-1".to_string()),
            (2, "peer=3 samples=7 only=ping-pong".to_string()),
        ];
        assert_eq!(lines, expected);
    }
}
