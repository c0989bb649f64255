//! What a terminal or a log receives.

pub mod columns;
pub mod escape;
pub mod log;
pub mod progress;
pub mod stdout;
