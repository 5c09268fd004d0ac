//! What scenarios are made of: a [`Scenario`] says which machine it wants and what happens there,
//! a [`Shell`] is the person at dom0's prompt, and [`disk`] looks at the disks from outside.

pub mod disk;
mod scenario;
mod shell;

pub use scenario::{Scenario, Stage};
pub use shell::{Counters, Shell};
