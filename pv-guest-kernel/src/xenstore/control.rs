//! What the toolstack asks of the whole domain: `control/shutdown`.

use abi::Errno;
use abi::sched::ShutdownReason;

use super::Client;
use crate::power;

const REQUEST: &str = "control/shutdown";

/// Waits for the toolstack's request and obeys it.
pub(super) async fn obey(client: Client) {
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
