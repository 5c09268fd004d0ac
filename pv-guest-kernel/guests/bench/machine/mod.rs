//! The virtual hardware, as the measured paths touch it.

pub mod call;
pub mod counter;
pub mod grant;
pub mod interrupt;
pub mod register;
