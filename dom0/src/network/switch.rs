//! The ports of the bridge, and how frames get from one to the others.
//!
//! Frames come in bursts. All copies that a burst needs, to whatever guests, are made in one
//! hypercall; then each guest that got something is told once.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use abi::net::MacAddress;
use pv_guest_kernel::condition::Condition;
use pv_guest_kernel::grant::CopyBatch;
use pv_guest_kernel::{time, vcpu_local};
use thiserror::Error;

use super::bridge::{Bridge, PortId, Route};
use super::checksum;
use super::frame::{Checksum, Frame};
use super::receiver::{Abilities, Receiver};
use super::segment::{self, SegmentError};
use super::station::{self, Station};

vcpu_local! {
    static SWITCH: RefCell<Option<Switch>> = RefCell::new(None);
}

/// What the sender of a burst did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Misdeed {
    #[error("a grant that cannot be read")]
    Grant,
    #[error(transparent)]
    Segment(SegmentError),
}

/// The way out of the machine.
pub(super) trait Uplink {
    /// Accepts a frame that lies in one buffer. Others are too long for the wire, and lost.
    fn send(&self, frame: &Frame<'_>);
    /// No more frames come for now.
    fn flush(&self);
    /// Whether frames wait because the wire is slower than those who send. They should wait too.
    fn is_busy(&self) -> bool;
    /// Notified when it is not any more.
    fn drained(&self) -> &Condition;
}

/// What a port leads to.
#[derive(Clone)]
enum Port {
    Uplink(Rc<dyn Uplink>),
    Dom0,
    Guest(Rc<Receiver>),
}

struct Switch {
    bridge: Bridge,
    ports: BTreeMap<PortId, Port>,
    /// The last number that was given to a port.
    last: u32,
    burst: Burst,
}

fn with<R>(access: impl FnOnce(&mut Switch) -> R) -> R {
    SWITCH.with(|switch| access(switch.borrow_mut().get_or_insert_with(Switch::new)))
}

/// Connects the way out of the machine.
pub(super) fn connect_uplink(uplink: Rc<dyn Uplink>) {
    with(|switch| switch.ports.insert(PortId::UPLINK, Port::Uplink(uplink)));
}

/// A guest's place at the bridge, until it is dropped.
#[derive(Debug)]
pub(super) struct Plug(pub(super) PortId);

impl Plug {
    /// Connects a guest, which has this address.
    pub(super) fn new(address: MacAddress, receiver: Rc<Receiver>) -> Plug {
        with(|switch| {
            switch.last += 1;
            let port = PortId(switch.last);
            switch.ports.insert(port, Port::Guest(receiver));
            switch.bridge.assign(address, port);
            Plug(port)
        })
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        with(|switch| {
            switch.ports.remove(&self.0);
            switch.bridge.forget(self.0);
        });
    }
}

/// Waits until the way out of the machine has room.
pub(super) async fn uplink_has_room() {
    let uplink = with(|switch| switch.ports.get(&PortId::UPLINK).cloned());
    if let Some(Port::Uplink(uplink)) = uplink {
        uplink.drained().until(|| (!uplink.is_busy()).then_some(())).await;
    }
}

/// Delivers frames that came through a port. Says whether the sender should wait for the way out of
/// the machine: some of its frames do.
///
/// # Errors
/// What the sender did wrong. All that can be delivered is.
pub(super) fn forward<'p>(
    from: PortId,
    frames: impl Iterator<Item = Frame<'p>>,
) -> Result<bool, Misdeed> {
    with(|switch| {
        let now = time::now();
        for frame in frames {
            let (receiver, sender) = frame.addresses();
            switch.bridge.learn(sender, from, now);
            switch.send(from, receiver, &frame, now);
        }
        let mut answers = core::mem::take(&mut switch.burst.answers);
        for answer in answers.drain(..) {
            let (receiver, _) = answer.addresses();
            switch.send(PortId::DOM0, receiver, &answer, now);
        }
        switch.burst.answers = answers;
        switch.burst.finish()
    })
}

impl Switch {
    /// With dom0 at it, and nobody else.
    fn new() -> Switch {
        let mut bridge = Bridge::default();
        bridge.assign(station::HARDWARE, PortId::DOM0);
        let ports = [(PortId::DOM0, Port::Dom0)].into();
        Switch { bridge, ports, last: PortId::DOM0.0, burst: Burst::new() }
    }

    /// Begins to deliver a frame to all who shall get it.
    fn send(&mut self, from: PortId, to: MacAddress, frame: &Frame<'_>, now: Duration) {
        match self.bridge.route(to, from, now) {
            Route::To(id) => {
                if let Some(port) = self.ports.get(&id) {
                    self.burst.deliver(id, port, frame);
                }
            }
            Route::Flood => {
                for (&id, port) in self.ports.iter().filter(|(id, _)| **id != from) {
                    self.burst.deliver(id, port, frame);
                }
            }
            Route::Nowhere => {}
        }
    }
}

/// Frames on their way to their receivers. Empty between bursts, and kept for its memory.
struct Burst {
    copies: CopyBatch,
    /// Who got something.
    touched: Vec<(PortId, Port)>,
    /// What dom0 itself has to say to some of them.
    answers: Vec<Frame<'static>>,
    misdeed: Option<Misdeed>,
    station: Station,
}

impl Burst {
    fn new() -> Burst {
        Burst {
            copies: CopyBatch::default(),
            touched: Vec::new(),
            answers: Vec::new(),
            misdeed: None,
            station: Station::new(),
        }
    }

    /// Begins to deliver a frame, in a form that the port can take.
    fn deliver(&mut self, id: PortId, port: &Port, frame: &Frame<'_>) {
        let abilities = match port {
            Port::Guest(receiver) => receiver.abilities,
            Port::Dom0 => {
                Abilities { scatter_gather: true, segmentation: true, blank_checksums: true }
            }
            Port::Uplink(_) => {
                Abilities { scatter_gather: false, segmentation: false, blank_checksums: false }
            }
        };
        let segments = match frame.segment_size {
            Some(size) if !abilities.segmentation => segment::split(frame, size.get().into()),
            _ if frame.checksum == Checksum::Blank && !abilities.blank_checksums => {
                Ok(checksum::complete(frame).into_iter().collect())
            }
            _ => return self.hand_over(id, port, core::slice::from_ref(frame)),
        };
        match segments {
            Ok(segments) => self.hand_over(id, port, &segments),
            Err(SegmentError::Memory) => {}
            Err(error) => self.misdeed = Some(Misdeed::Segment(error)),
        }
    }

    fn hand_over(&mut self, id: PortId, port: &Port, frames: &[Frame<'_>]) {
        let frames = frames.iter();
        match port {
            Port::Uplink(uplink) => frames.for_each(|frame| uplink.send(frame)),
            Port::Guest(receiver) => {
                frames.for_each(|frame| receiver.place(frame, &mut self.copies));
            }
            Port::Dom0 => {
                let answers = frames.filter_map(|frame| self.station.answer(frame));
                return self.answers.extend(answers);
            }
        }
        if !self.touched.iter().any(|(touched, _)| *touched == id) {
            self.touched.push((id, port.clone()));
        }
    }

    /// Has the copies made and tells those who got something.
    fn finish(&mut self) -> Result<bool, Misdeed> {
        if let Err(errno) = self.copies.run() {
            log::error!("frames cannot be copied: {errno}");
        }
        let mut busy = false;
        for (_, port) in self.touched.drain(..) {
            match port {
                Port::Uplink(uplink) => {
                    uplink.flush();
                    busy = uplink.is_busy();
                }
                Port::Dom0 => {}
                Port::Guest(receiver) => {
                    if receiver.finish(&self.copies).is_err() {
                        self.misdeed = Some(Misdeed::Grant);
                    }
                }
            }
        }
        self.copies.clear();
        self.misdeed.take().map_or(Ok(busy), Err)
    }
}
