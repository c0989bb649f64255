//! What a terminal or a log receives.

pub(crate) mod columns;
pub(crate) mod escape;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod stdout;
