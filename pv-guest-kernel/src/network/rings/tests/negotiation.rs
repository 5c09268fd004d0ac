//! How many queues the two ends agree upon, and where the frontend's keys are.

use std::time::Duration;

use super::*;
use crate::host::Monitor;
use crate::time;
use crate::xenstore::Client;
use crate::xenstore::fake::FakeStore;

const FRONTEND: &str = "/local/domain/5/device/vif/0";
const BACKEND: &str = "/local/domain/0/backend/vif/5/0";

/// Makes both directories, as the toolstack does.
fn with_device(test: impl AsyncFnOnce(FakeStore, Client) + Send + 'static) {
    Monitor::run_alone(|| async move {
        let store = FakeStore::default();
        store.set(&[
            (&format!("{FRONTEND}/backend"), BACKEND),
            (&format!("{FRONTEND}/backend-id"), "0"),
            (&format!("{FRONTEND}/state"), "1"),
            (&format!("{BACKEND}/online"), "1"),
        ]);
        let guest = store.connect(5);
        test(store, guest).await;
    });
}

/// Connects a frontend that wants so many queues to a backend that takes so many, if it says so.
async fn connect(store: &FakeStore, guest: &Client, wanted: usize, most: Option<&str>) -> Rings {
    store.remove(&format!("{BACKEND}/{}", key::MAX_QUEUES));
    if let Some(most) = most {
        store.set(&[(&format!("{BACKEND}/{}", key::MAX_QUEUES), most)]);
    }
    store.set(&[(&format!("{BACKEND}/state"), "2")]);
    let device = Device::frontend(guest, "device/vif/0").await.unwrap();
    let wanted = NonZeroUsize::new(wanted).unwrap();
    let connecting = executor::spawn(async move { Rings::connect(&device, wanted).await });
    let is_connected = || store.get(&format!("{FRONTEND}/state")).as_deref() == Some("4");
    while !is_connected() && !connecting.is_finished() {
        time::sleep(Duration::from_micros(100)).await;
    }
    store.set(&[(&format!("{BACKEND}/state"), "4")]);
    connecting.await.unwrap()
}

/// Checks that the backend finds each queue of the frontend where it looks for it.
fn check(store: &FakeStore, rings: &Rings, several: Option<&str>) {
    let get = |key: &str| store.get(&format!("{FRONTEND}/{key}"));
    assert_eq!(get(key::NUM_QUEUES).as_deref(), several);
    let count = rings.queues.len();
    for (index, (tx, queue)) in rings.transmit.grants.iter().zip(&rings.queues).enumerate() {
        let prefix = if count == 1 { String::new() } else { format!("queue-{index}/") };
        let expected = [
            (key::TX_RING, tx.reference().to_string()),
            (key::RX_RING, queue.receive.grant.reference().to_string()),
            (key::EVENT_CHANNEL, queue.channel.port().to_string()),
        ];
        for (key, value) in expected {
            assert_eq!(get(&format!("{prefix}{key}")), Some(value), "{prefix}{key}");
        }
    }
}

#[test]
fn as_many_as_are_wanted_and_the_backend_takes() {
    for (wanted, most, count, several) in [
        (1, None, 1, None),
        (1, Some("8"), 1, None),
        (2, Some("8"), 2, Some("2")),
        (9, Some("4"), 4, Some("4")),
        (2, Some("1"), 1, Some("1")),
        (2, None, 1, Some("1")),
    ] {
        with_device(async move |store, guest| {
            let rings = connect(&store, &guest, wanted, most).await;
            assert_eq!(rings.queues.len(), count, "{wanted} of {most:?}");
            check(&store, &rings, several);
        });
    }
}

#[test]
fn a_backend_that_comes_back_may_take_more_or_fewer() {
    with_device(async |store, guest| {
        for most in [Some("4"), Some("2"), None, Some("8")] {
            let rings = connect(&store, &guest, 4, most).await;
            let count = rings.queues.len().to_string();
            check(&store, &rings, Some(&count));
            store.set(&[(&format!("{FRONTEND}/state"), "6")]);
        }
    });
}
