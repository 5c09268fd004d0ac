//! What the toolstack asks of the whole domain: `control/shutdown`, `control/sysrq`, and
//! `memory/target` (docs/misc/xenstore-paths.pandoc).

use abi::sched::ShutdownReason;
use abi::{Errno, PAGE_SIZE};

use super::Client;
use crate::memory::balloon::Balloon;
use crate::{executor, memory, power};

const REQUEST: &str = "control/shutdown";
const SYSRQ: &str = "control/sysrq";
const MEMORY: &str = "memory/target";
const KIBIBYTES_PER_PAGE: u64 = PAGE_SIZE as u64 / 1024;

/// Waits for the toolstack's request and obeys it.
pub(super) async fn obey(client: Client) {
    executor::spawn(answer_keys(client.clone())).detach();
    executor::spawn(follow_memory(client.clone())).detach();
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

/// Has as much memory as the toolstack wants.
async fn follow_memory(client: Client) {
    let follow = async {
        let mut balloon = Balloon::default();
        let watch = client.watch(MEMORY).await?;
        loop {
            watch.next().await;
            let target: u64 = match client.read_as(MEMORY).await {
                Ok(target) => target,
                // A toolstack that does not say how much there shall be has no balloons.
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(error),
            };
            let pages = usize::try_from(target / KIBIBYTES_PER_PAGE).map_err(|_| Errno::EINVAL)?;
            balloon.follow(pages).await;
        }
    };
    let error: Result<(), Errno> = follow.await;
    if let Err(error) = error {
        log::warn!("`xl mem-set` will not work: {MEMORY}: {error}");
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
