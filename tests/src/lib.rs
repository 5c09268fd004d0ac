//! What scenarios are made of: a [`Scenario`] says which machine it wants and what happens there,
//! a [`Shell`] is the person at dom0's prompt; [`disk`] looks at the disks and [`http`] at the network
//! from outside.

pub mod disk;
pub mod http;
mod scenario;
mod shell;

pub use scenario::{Scenario, Stage};
pub use shell::{Counters, Shell};
