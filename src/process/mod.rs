//! The deadline of a run, signals and panics.

pub mod deadline;
pub mod panics;
pub mod run_id;
mod signals;
pub mod supervise;
