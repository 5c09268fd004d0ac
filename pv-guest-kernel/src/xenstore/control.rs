//! What the toolstack asks of the whole domain: `control/shutdown` and `control/sysrq`.

use abi::Errno;
use abi::sched::ShutdownReason;

use super::Client;
use crate::{executor, memory, power};

const REQUEST: &str = "control/shutdown";
const SYSRQ: &str = "control/sysrq";

/// Waits for the toolstack's request and obeys it.
pub(super) async fn obey(client: Client) {
    executor::spawn(answer_keys(client.clone())).detach();
    if let Err(error) = watch(&client).await {
        log::warn!("`xl shutdown` will not work: {REQUEST}: {error}");
    }
}

async fn watch(client: &Client) -> Result<(), Errno> {
    advertise(client).await;
    let watch = client.watch(REQUEST).await?;
    loop {
        watch.next().await;
        let request = match client.read(REQUEST).await {
            Ok(request) => request,
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        if let Some(reason) = reason(&request) {
            log::info!("the toolstack asks for {request}");
            // An empty value tells the toolstack that the request was seen.
            client.write(REQUEST, "").await?;
            power::shutdown(reason);
        } else if !request.is_empty() {
            log::warn!("the toolstack asks for {request}, which this kernel cannot do");
        }
    }
}

/// Does what Linux does at the same keys, as far as it makes sense here.
async fn answer_keys(client: Client) {
    let keys = async {
        let watch = client.watch(SYSRQ).await?;
        loop {
            watch.next().await;
            let key = client.read(SYSRQ).await.unwrap_or_default();
            if !key.is_empty() {
                client.write(SYSRQ, "").await?;
                press(&key);
            }
        }
    };
    let error: Result<(), Errno> = keys.await;
    if let Err(error) = error {
        log::warn!("`xl sysrq` will not work: {SYSRQ}: {error}");
    }
}

fn press(key: &str) {
    match key {
        "c" => power::shutdown(ShutdownReason::Crash),
        "m" => {
            let (used, all) = memory::heap_usage();
            log::warn!("sysrq: {} of {} KiB of heap are in use", used >> 10, all >> 10);
        }
        _ => log::warn!("sysrq: the keys are c (crash) and m (memory)"),
    }
}

/// Tells the toolstack what may be asked for. Not every toolstack lets a guest say so.
async fn advertise(client: &Client) {
    for feature in ["control/feature-poweroff", "control/feature-reboot"] {
        if let Err(error) = client.write(feature, "1").await {
            log::debug!("{feature}: {error}");
        }
    }
}

/// Why a domain that obeys ends, in the monitor's terms.
fn reason(request: &str) -> Option<ShutdownReason> {
    match request {
        "poweroff" | "halt" => Some(ShutdownReason::Poweroff),
        "reboot" => Some(ShutdownReason::Reboot),
        _ => None,
    }
}
