//! The deadline of a run, signals and panics.

pub(crate) mod deadline;
pub(crate) mod lock;
pub(crate) mod panics;
pub(crate) mod run_id;
mod signals;
pub(crate) mod supervise;
