//! The pair `sample` in the machine.

use anyhow::{Result, ensure};
use tests::{Scenario, Shell, Stage};

pub const SCENARIOS: &[Scenario] = &[Scenario::new("sample::moves_data", moves_data)];

fn moves_data(shell: &mut Shell, _: &Stage) -> Result<()> {
    let output = shell.succeeds("xl create -c sample")?;
    ensure!(output.contains("3 came back as 21"), "the guest printed: {output}");
    shell.wait_until_gone("sample")
}
