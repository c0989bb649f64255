//! The deadline of a run, signals and panics.

pub mod deadline;
pub mod run_id;
pub mod supervise;
