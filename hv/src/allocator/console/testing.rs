//! For tests: a console ring, and dom0's end of it.

use super::*;
use crate::allocator::testing;

/// Of a domain whose ring is at guest frame 5.
pub fn console() -> Console {
    let mut monitor = testing::monitor(256);
    let id = testing::create(&mut monitor, 16);
    monitor.physmap(id).and_then(|mut space| space.populate(Gfn(5), 0)).expect("a page");
    assert!(Console::of(&monitor, id).is_none(), "nobody said where it is");
    let domain = monitor.domains.get_mut(id).expect("it exists");
    assert!(domain.parameters.set(Index::ConsolePfn, 5));
    Console::of(&monitor, id).expect("its frame is RAM")
}

/// What has been sent and not been taken.
pub fn output(console: Console) -> Vec<u8> {
    let place = |index| offset_of!(Ring, output) + index % OUTPUT_SIZE;
    let read = |index| console.page.u8(place(index)).load(Ordering::Relaxed);
    let taken = console.word(offset_of!(Ring, output_consumer)).load(Ordering::Relaxed);
    let sent = console.word(offset_of!(Ring, output_producer)).load(Ordering::Relaxed);
    (taken as usize..sent as usize).map(read).collect()
}

/// Sends until there is no more room.
pub fn fill(console: Console) {
    while console.room() > 0 {
        console.put(0);
    }
}

/// Takes all that was sent.
pub fn drain(console: Console) {
    let sent = console.word(offset_of!(Ring, output_producer)).load(Ordering::Relaxed);
    console.word(offset_of!(Ring, output_consumer)).store(sent, Ordering::Relaxed);
}

/// Sends a character to the domain.
pub fn type_in(console: Console, byte: u8) {
    let producer = console.word(offset_of!(Ring, input_producer));
    let at = producer.load(Ordering::Relaxed);
    console.page.u8(at as usize % INPUT_SIZE).store(byte, Ordering::Relaxed);
    producer.store(at + 1, Ordering::Relaxed);
}
