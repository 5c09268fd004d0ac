//! Two ends of a device in one store: how they meet, part and meet again.

use std::pin::pin;
use std::rc::Rc;

use abi::xenbus::State;
use abi::{Errno, GrantRef};
use futures_util::future::{Either, FutureExt, join, join_all, select};

use super::{BackLink, Caller, Device, Error, run_frontend, serve_backends};
use crate::executor;
use crate::grant::{Access, Grant, Mapping};
use crate::host::Monitor;
use crate::shared::SharedPage;
use crate::xenstore::Client;
use crate::xenstore::fake::FakeStore;

const FRONTEND: &str = "/local/domain/5/device/clock/0";
const BACKEND: &str = "/local/domain/0/backend/clock/5/0";

/// Makes both directories, as the toolstack does, and connects both domains.
fn with_device(test: impl AsyncFnOnce(FakeStore, Client, Client) + Send + 'static) {
    Monitor::run_alone(|| async move {
        let store = FakeStore::default();
        store.set(&[
            (&format!("{FRONTEND}/backend"), BACKEND),
            (&format!("{FRONTEND}/backend-id"), "0"),
            (&format!("{FRONTEND}/state"), "1"),
            (&format!("{BACKEND}/frontend"), FRONTEND),
            (&format!("{BACKEND}/frontend-id"), "5"),
            (&format!("{BACKEND}/online"), "1"),
            (&format!("{BACKEND}/state"), "1"),
        ]);
        let (guest, dom0) = (store.connect(5), store.connect(0));
        test(store, guest, dom0).await;
    });
}

#[test]
fn the_two_ends_meet() {
    with_device(async |store, guest, dom0| {
        let front = async {
            let device = Device::frontend(&guest, "device/clock/0").await.unwrap();
            device.wait_peer(&[State::InitWait]).await.unwrap();
            device.publish(&[("ring-ref", "8")], State::Initialised).await.unwrap();
            device.wait_peer(&[State::Connected]).await.unwrap();
            assert_eq!(device.read_peer::<u32>("hertz").await.unwrap(), 1000);
            device.switch_state(State::Connected).await.unwrap();
        };
        let back = async {
            let device = Device::backend(&dom0, "backend/clock/5/0").await.unwrap();
            assert_eq!(device.peer().0, 5);
            device.switch_state(State::InitWait).await.unwrap();
            device.wait_peer(&[State::Initialised]).await.unwrap();
            assert_eq!(device.read_peer::<u32>("ring-ref").await.unwrap(), 8);
            device.publish(&[("hertz", "1000")], State::Connected).await.unwrap();
            device.wait_peer(&[State::Connected]).await.unwrap();
        };
        join(front, back).await;
        for directory in [FRONTEND, BACKEND] {
            assert_eq!(store.get(&format!("{directory}/state")).as_deref(), Some("4"));
        }
    });
}

#[test]
fn a_step_that_does_not_follow_is_refused() {
    with_device(async |store, guest, _| {
        let device = Device::frontend(&guest, "device/clock/0").await.unwrap();
        let refused = device.switch_state(State::Reconfigured).await;
        assert!(matches!(refused, Err(Error::Step(State::Initialising, State::Reconfigured))));
        assert_eq!(store.get(&format!("{FRONTEND}/state")).as_deref(), Some("1"));
    });
}

#[test]
fn who_waits_learns_that_the_other_end_goes() {
    with_device(async |store, guest, _| {
        let device = Device::frontend(&guest, "device/clock/0").await.unwrap();
        let wait = device.wait_peer(&[State::Connected]);
        let close = async { store.set(&[(&format!("{BACKEND}/state"), "5")]) };
        let (result, ()) = join(wait, close).await;
        assert!(matches!(result, Err(Error::Gone(State::Closing))));
    });
}

/// A driver that connects, and works until its backend goes.
async fn work_until_it_goes(device: &Device) -> Result<(), Error> {
    device.switch_state(State::Connected).await?;
    Err(device.ended().await)
}

#[test]
fn a_frontend_comes_back_with_its_backend_but_not_for_another_device_in_its_place() {
    with_device(async |store, guest, _| {
        let (front, back) = (format!("{FRONTEND}/state"), format!("{BACKEND}/state"));
        store.set(&[(&back, "4")]);
        let frontend = executor::spawn(async move {
            run_frontend(&guest, "device/clock/0", work_until_it_goes).await
        });
        wait_until(|| store.get(&front).as_deref() == Some("4")).await;
        // The backend goes for a while.
        store.set(&[(&back, "5")]);
        wait_until(|| store.get(&front).as_deref() == Some("6")).await;
        store.set(&[(&back, "2")]);
        wait_until(|| store.get(&front).as_deref() == Some("4")).await;
        // The device is taken away; what comes after that is another.
        store.set(&[(&format!("{BACKEND}/online"), "0"), (&back, "5")]);
        wait_until(|| store.get(&front).as_deref() == Some("6")).await;
        store.set(&[(&format!("{BACKEND}/online"), "1"), (&front, "1"), (&back, "2")]);
        assert!(matches!(frontend.await, Err(Error::Removed)));
    });
}

#[test]
fn a_directory_that_was_removed_is_not_made_again() {
    with_device(async |store, guest, _| {
        let device = Device::frontend(&guest, "device/clock/0").await.unwrap();
        store.remove(FRONTEND);
        assert!(matches!(device.switch_state(State::Initialised).await, Err(Error::Removed)));
        assert_eq!(store.get(&format!("{FRONTEND}/state")), None);
    });
}

#[test]
fn an_update_that_others_interfere_with_is_tried_again() {
    with_device(async |store, guest, _| {
        let device = Device::frontend(&guest, "device/clock/0").await.unwrap();
        store.interfere(3);
        device.publish(&[("ring-ref", "9")], State::Initialised).await.unwrap();
        assert_eq!(store.get(&format!("{FRONTEND}/ring-ref")).as_deref(), Some("9"));
    });
}

#[test]
fn nonsense_of_the_other_end_is_an_error_with_the_keys_name() {
    with_device(async |store, _, dom0| {
        let device = Device::backend(&dom0, "backend/clock/5/0").await.unwrap();
        store.set(&[(&format!("{FRONTEND}/ring-ref"), "eight")]);
        let Err(Error::Key { key, error }) = device.read_peer::<u32>("ring-ref").await else {
            panic!("a word was read as a number");
        };
        assert_eq!((key.as_str(), error), (&*format!("{FRONTEND}/ring-ref"), Errno::EINVAL));
    });
}

#[test]
fn a_backend_is_served_when_it_appears_and_closed_when_it_is_taken_away() {
    with_device(async |store, _, dom0| {
        let server = executor::spawn(async move {
            let driver = async |device: &Device| {
                device.switch_state(State::InitWait).await?;
                Err(device.ended().await)
            };
            serve_backends(&dom0, "clock", driver).await
        });
        let state = format!("{BACKEND}/state");
        wait_until(|| store.get(&state).as_deref() == Some("2")).await;
        store.set(&[(&format!("{BACKEND}/online"), "0")]);
        wait_until(|| store.get(&state).as_deref() == Some("6")).await;
        assert!(server.now_or_never().is_none(), "the server goes on for other devices");
    });
}

#[test]
fn a_backend_closes_in_two_steps_for_a_frontend_that_waits_to_see_both() {
    with_device(async |store, _, dom0| {
        let server = executor::spawn(async move {
            let driver = async |device: &Device| {
                device.switch_state(State::InitWait).await?;
                Err(device.ended().await)
            };
            serve_backends(&dom0, "clock", driver).await
        });
        let (front, back) = (format!("{FRONTEND}/state"), format!("{BACKEND}/state"));
        store.set(&[(&front, "4")]);
        wait_until(|| store.get(&back).as_deref() == Some("2")).await;
        store.set(&[(&front, "5")]);
        wait_until(|| store.get(&back).as_deref() == Some("5")).await;
        store.set(&[(&front, "6")]);
        wait_until(|| store.get(&back).as_deref() == Some("6")).await;
        drop(server);
    });
}

#[test]
fn a_backend_that_was_never_served_is_closed_too() {
    with_device(async |store, _, dom0| {
        store.set(&[(&format!("{BACKEND}/online"), "0")]);
        let server = executor::spawn(async move {
            let driver = async |_: &Device| panic!("the toolstack does not want it any more");
            serve_backends(&dom0, "clock", driver).await
        });
        let state = format!("{BACKEND}/state");
        wait_until(|| store.get(&state).as_deref() == Some("6")).await;
        store.remove(BACKEND);
        executor::yield_now().await;
        assert_eq!(store.get(&state), None);
        drop(server);
    });
}

type Link<'d> = BackLink<'d, u32, u64>;

/// Later requests take less time than earlier ones.
async fn square(number: u32) -> u64 {
    for _ in number..8 {
        executor::yield_now().await;
    }
    u64::from(number).pow(2)
}

async fn connect(guest: &Client) -> Rc<Caller<u32, u64>> {
    Rc::new(Caller::connect(guest, "device/clock/0").await.unwrap())
}

#[test]
fn each_of_many_callers_gets_its_own_answer() {
    with_device(async |_, guest, dom0| {
        let driver = async |device: &Device| Link::connect(device).await?.answer(square).await;
        let server = executor::spawn(async move { serve_backends(&dom0, "clock", driver).await });
        let caller = connect(&guest).await;
        // More than fit on the ring.
        let answers = (0..3000).map(|number| caller.call(number));
        for (number, answer) in join_all(answers).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), (number as u64).pow(2));
        }
        drop(server);
    });
}

#[test]
fn what_a_backend_did_not_answer_its_successor_does() {
    with_device(async |store, guest, dom0| {
        let caller = executor::spawn(async move {
            let caller = connect(&guest).await;
            join_all((0..20).map(|number| caller.call(number))).await
        });
        let device = Device::backend(&dom0, "backend/clock/5/0").await.unwrap();
        let link = Link::connect(&device).await.unwrap();
        for number in 0..3 {
            assert_eq!(link.receive().await.unwrap(), number);
        }
        link.send(&1000).unwrap();
        drop(link);
        device.close().await;
        let front = format!("{FRONTEND}/state");
        wait_until(|| store.get(&front).as_deref() == Some("1")).await;
        let link = Link::connect(&device).await.unwrap();
        let answering = pin!(link.answer(square));
        let Either::Right((answers, _)) = select(answering, caller).await else {
            panic!("the frontend went away");
        };
        let answers: Vec<u64> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers[0], 1000, "it was answered once, and not asked again");
        assert!(answers[1..].iter().copied().eq((1..20).map(|number: u64| number.pow(2))));
    });
}

#[test]
fn a_frontend_that_never_stops_does_not_keep_others_from_their_turn() {
    with_device(async |_, guest, dom0| {
        let caller = executor::spawn(async move {
            let caller = connect(&guest).await;
            join_all((0..10).map(|number| caller.call(number))).await
        });
        let device = Device::backend(&dom0, "backend/clock/5/0").await.unwrap();
        let link = Link::connect(&device).await.unwrap();
        link.wait().await.unwrap();
        assert!(link.wait().now_or_never().is_none(), "there is more, and nobody had a turn");
        let answering = pin!(link.answer(square));
        assert!(matches!(select(answering, caller).await, Either::Right(_)));
    });
}

#[test]
fn a_page_that_was_lent_is_the_backends_until_it_answers() {
    with_device(async |_, guest, dom0| {
        let caller = executor::spawn(async move {
            let caller = connect(&guest).await;
            let page = SharedPage::allocate().unwrap();
            let grant = Grant::new(&page, caller.backend(), Access::ReadWrite).unwrap();
            let reference = grant.reference().0;
            let asked = caller.lend(reference, vec![grant]).now_or_never();
            assert!(asked.is_none(), "it was answered before it was sent");
            caller.call(0).await.unwrap();
        });
        let device = Device::backend(&dom0, "backend/clock/5/0").await.unwrap();
        let link = Link::connect(&device).await.unwrap();
        let reference = GrantRef(link.receive().await.unwrap());
        let map = || Mapping::new(device.peer(), &[reference], Access::ReadWrite).map(drop);
        executor::yield_now().await;
        assert_eq!(map(), Ok(()), "nobody waits any more, but it was not answered");
        link.send(&0).unwrap();
        link.receive().await.unwrap();
        link.send(&0).unwrap();
        caller.await;
        assert!(map().is_err());
    });
}

#[test]
fn callers_learn_that_the_device_is_gone_for_good() {
    with_device(async |store, guest, dom0| {
        let caller = executor::spawn(async move { connect(&guest).await.call(3).await });
        let device = Device::backend(&dom0, "backend/clock/5/0").await.unwrap();
        let link = Link::connect(&device).await.unwrap();
        assert_eq!(link.receive().await.unwrap(), 3);
        store.remove(FRONTEND);
        drop(link);
        device.close().await;
        assert!(matches!(caller.await, Err(Error::Removed)));
    });
}

/// Lets the other tasks run until `condition` holds; a test that waits in vain fails.
async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        crate::time::sleep(core::time::Duration::from_micros(100)).await;
    }
    panic!("the condition never came to hold");
}
