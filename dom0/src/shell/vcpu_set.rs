//! `xl vcpu-set`.

use alloc::{format, string::String};

use super::{
    Session,
    command::{Command, Failure},
};

/// The verb.
pub const COMMAND: Command = Command {
    name: "vcpu-set",
    arguments: "DOMAIN VCPUS",
    summary: "have a domain use so many of its vCPUs",
    run: |session, arguments| alloc::boxed::Box::pin(run(session, arguments)),
};

async fn run(session: &mut Session, arguments: &[String]) -> Result<(), Failure> {
    let [domain, count] = arguments else { return Err(Failure::Usage) };
    let online = count
        .parse()
        .map_err(|_| Failure::BadCall(format!("`{count}` is not a number of vCPUs")))?;
    Ok(session.toolstack.set_vcpus(domain, online).await?)
}
